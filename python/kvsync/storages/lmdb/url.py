"""`lmdb:///` URLs."""

from __future__ import annotations

import re

from kvsync.errors import UsageError
from kvsync.storages.lmdb.storage import MAP_BYTES, LmdbStorage
from kvsync.storages.url import parse_url

__all__ = ["open_url", "parse_size"]

_SIZE = re.compile(r"([1-9][0-9]{0,18})\s*(?:([KMGTP])i?)?B?\Z", re.IGNORECASE | re.ASCII)


def open_url(url: str) -> LmdbStorage:
    """Return the storage of a `lmdb:///dir` URL.

    Raises:
        UsageError: the URL has a host, no path, or an unknown parameter.
    """
    parsed = parse_url(url)
    options = parsed.options("db", "map_size")
    path = parsed.path[1:]
    if parsed.authority or not path:
        message = "an environment's URL is lmdb:///relative or lmdb:////absolute"
        raise UsageError(message, storage=str(parsed))
    try:
        map_size = parse_size(options["map_size"]) if "map_size" in options else MAP_BYTES
        return LmdbStorage(path, database=options.get("db"), map_size=map_size, name=str(parsed))
    except UsageError as error:
        error.storage = str(parsed)
        raise


def parse_size(text: str) -> int:
    """Parse a number of bytes.

    >>> parse_size("64G"), parse_size("10 MiB"), parse_size("4096")
    (68719476736, 10485760, 4096)

    Raises:
        UsageError: it is not a number of bytes, or too large.
    """
    found = _SIZE.match(text)
    size = int(found[1]) << (10 * (" KMGTP".index(found[2].upper()) if found[2] else 0)) if found else 0
    if not 0 < size < 1 << 62:
        message = f"map_size={text!r:.100} is not a number of bytes: write 4096, 512M or 64G"
        raise UsageError(message)
    return size
