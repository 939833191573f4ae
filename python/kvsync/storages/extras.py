"""Client libraries of storages: installed as extras, imported when such a storage is opened."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kvsync.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["client"]


def client(module: str, extra: str) -> ModuleType:
    """Import a storage's client library.

    Raises:
        UsageError: it is not installed; the text contains the command that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        message = f"this storage needs the package {error.name!r}: pip install 'kvsync[{extra}]'"
        raise UsageError(message) from error
