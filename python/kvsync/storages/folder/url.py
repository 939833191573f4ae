"""The URL of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from kvsync.errors import UsageError
from kvsync.storages.folder.storage import FolderStorage
from kvsync.storages.options import choice
from kvsync.storages.url import parse_url

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["open_url"]


def open_url(url: str) -> FolderStorage:
    """Return the folder of a `file:///dir` URL.

    Raises:
        UsageError: the URL names a host, or a parameter that is not known.
    """
    parsed = parse_url(url)
    options = parsed.options("empty_dirs", "links", "meta")
    links = choice(options, "links", ("skip", "follow"), storage=str(parsed))
    empty_dirs = choice(options, "empty_dirs", ("ignore", "keep"), storage=str(parsed))
    meta = options["meta"].split(",") if options.get("meta") else ()
    if parsed.authority not in {"", "localhost"} or not parsed.path:
        message = "a folder's URL has three slashes and an absolute path: file:///dir"
        raise UsageError(message, storage=str(parsed))
    return FolderStorage(
        parsed.path,
        links=cast("Literal['skip', 'follow']", links),
        meta=meta,
        empty_dirs=cast("Literal['ignore', 'keep']", empty_dirs),
    )
