"""Names of storages on the command line: those of `kvsync.toml`.

A name of the file wins over the name of a folder. Where there is such a folder here, and it is not that storage, the
command asks to say which is meant.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.storages.url import redact, scheme_of

if TYPE_CHECKING:
    from kvsync.config.file import Config

__all__ = ["config", "forget", "needed_config", "note", "place", "secrets", "shown", "use"]


class _Known:
    """What this command line says of names.

    Attributes:
        path: the file that it names.
        config: what the file says, once it was read.
        names: {URL or path without secrets: name} of the storages that were named.
        secrets: their URLs, which may hold secrets.
    """

    def __init__(self) -> None:
        self.path: str | None = None
        self.config: Config | None = None
        self.names: dict[str, str] = {}
        self.secrets: list[str] = []


_known = _Known()


def forget() -> None:
    """Begin a new command line."""
    global _known  # noqa: PLW0603 - a process runs one command line at a time
    _known = _Known()


def use(path: str) -> None:
    """Take names from this file, wherever the command runs."""
    _known.path = path


def config() -> Config | None:
    """Return what the file says; None where there is none.

    Raises:
        UsageError: it cannot be read, or is not to be trusted.
    """
    from kvsync.config import found_file  # noqa: PLC0415 - not every command line has a name

    if _known.config is None and (path := _known.path or found_file()) is not None:
        from kvsync.config.file import read  # noqa: PLC0415 - most command lines have no file

        _known.config = read(path)
    return _known.config


def needed_config() -> Config:
    """Return what the file says.

    Raises:
        UsageError: there is none.
    """
    from kvsync.config import FILE_NAME  # noqa: PLC0415

    found = config()
    if found is None:
        message = f"there is no {FILE_NAME} here or in a folder above: `kvsync init` makes one, --config names one"
        raise UsageError(message)
    return found


def place(target: str) -> str:
    """Return the storage that an argument means: that of a name in the file, or a path or URL as it is.

    Raises:
        UsageError: the name is also that of a folder here; or it cannot be told where the storage is.
    """
    if not target or "/" in target or scheme_of(target) is not None:
        return target
    found = config()
    if found is None or target not in found.storages:
        return target
    named = found.place(target)
    if _known.path is None and os.path.lexists(target) and not _is_same(target, named):
        message = (
            f"{target!r} is both a name in {found.path} and something else in this folder: write ./{target} for that, "
            f"or give --config {found.path} to mean the name"
        )
        raise UsageError(message)
    note(named, target)
    return named


def note(url: str, name: str) -> None:
    """Remember the name of a storage for what is printed, and keep its secrets out of that."""
    _known.names[redact(url)] = name
    _known.secrets.append(url)


def secrets() -> list[str]:
    """Return the URLs that were named, with the secrets in them."""
    return _known.secrets


def shown(storage: str) -> str:
    """Return a storage without secrets, as errors tell it: by its name where it has one."""
    text = redact(storage)
    return _known.names.get(text, text)


def _is_same(path: str, named: str) -> bool:
    return scheme_of(named) is None and os.path.exists(named) and os.path.samefile(path, named)
