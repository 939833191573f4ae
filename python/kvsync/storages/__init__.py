"""The storages: a registry by URL scheme, and `open_storage`, which turns anything a user may name into one.

An adapter is one module, one line in `_ADAPTERS` below, and one subclass of
`kvsync.testing.conformance.StorageConformance`. Those of others register an entry point in the group
`kvsync.storages`: its name is the scheme, its value a callable that takes the URL and returns a `Storage`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeAlias, cast

from kvsync.errors import UsageError
from kvsync.storages.base import ObjectMismatch, Storage, SupportsIdentity, SupportsStreaming, SupportsTransaction
from kvsync.storages.url import redact, scheme_of

__all__ = [
    "ObjectMismatch",
    "Storage",
    "SupportsIdentity",
    "SupportsStreaming",
    "SupportsTransaction",
    "Target",
    "open_storage",
    "redact",
    "schemes",
]

Target: TypeAlias = "str | os.PathLike[str] | MutableMapping[str, bytes] | Storage"
_Factory: TypeAlias = Callable[[str], Storage]

ENTRY_POINTS = "kvsync.storages"

_ADAPTERS = {
    "az": "kvsync.storages.bucket:open_url",
    "file": "kvsync.storages.folder:open_url",
    "gs": "kvsync.storages.bucket:open_url",
    "lmdb": "kvsync.storages.lmdb:open_url",
    "memory": "kvsync.storages.mapping:open_url",
    "nats": "kvsync.storages.nats:open_url",
    "postgres": "kvsync.storages.postgres:open_url",
    "postgresql": "kvsync.storages.postgres:open_url",
    "redis": "kvsync.storages.redis:open_url",
    "rediss": "kvsync.storages.redis:open_url",
    "s3": "kvsync.storages.bucket:open_url",
    "sqlite": "kvsync.storages.sqlite:open_url",
}


def open_storage(target: Target, *, create: bool = True) -> tuple[Storage, bool]:
    """Return the storage that `target` names, and whether it was opened here, so that the caller closes it.

    `target` is a URL, a path of a folder, a `MutableMapping`, or a `Storage`, which is returned as it is.
    Opening creates nothing: a folder or database that does not exist reads as empty, and is created by the
    first write. With `create` False, a folder must exist.

    >>> storage, owned = open_storage("memory:")
    >>> storage.read(["user/1"]), owned
    ([None], True)

    Raises:
        UsageError: `target` is nothing of that kind, or its scheme is not known.
        StorageError: it could not be opened.
    """
    if type(target) is not dict and isinstance(target, Storage):
        return target, False
    if isinstance(target, MutableMapping):
        from kvsync.storages.mapping import MappingStorage  # noqa: PLC0415 - adapters are imported when used

        return MappingStorage(target), True
    text, is_path = _text_of(target)
    scheme = None if is_path else scheme_of(text)
    if scheme is not None:
        return _factory(scheme, text)(text), True
    from kvsync.storages.folder import FolderStorage  # noqa: PLC0415 - adapters are imported when used

    return FolderStorage(text, create=create), True


def schemes() -> list[str]:
    """Return every URL scheme that can be opened, ascending."""
    return sorted({*_ADAPTERS, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def _text_of(target: object) -> tuple[str, bool]:
    if isinstance(target, str | os.PathLike):
        text = os.fspath(target)
        if isinstance(text, str) and text:
            if "\0" in text:
                message = "a storage's path or URL cannot hold a NUL character"
                raise UsageError(message)
            return text, not isinstance(target, str)
    shown = "an empty text" if target == "" else type(target).__name__
    message = f"a storage is a URL, a folder's path, a MutableMapping or a Storage, not {shown}"
    raise UsageError(message)


def _factory(scheme: str, text: str) -> _Factory:
    if scheme in _ADAPTERS:
        module, _, name = _ADAPTERS[scheme].partition(":")
        return cast("_Factory", getattr(import_module(module), name))
    for point in entry_points(group=ENTRY_POINTS, name=scheme):
        return cast("_Factory", point.load())
    message = f"unknown scheme {scheme!r} in {redact(text)!r}; known are {', '.join(schemes())}"
    raise UsageError(message)
