"""Open the storages named on the command line; a misspelt name is an error, never an empty storage."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsync import opening
from kvsync.cli.confirm import asked, has_terminal
from kvsync.cli.names import place
from kvsync.errors import UsageError
from kvsync.storages.url import scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.contract import Storage

__all__ = ["check_name", "opened", "opened_pair"]


@contextmanager
def opened(target: str, *, new: bool = False) -> Iterator[Storage]:
    """Open a storage, which must exist unless it may be `new`, and close it at the end.

    Raises:
        UsageError: the name is wrong.
        StorageError: it does not exist.
    """
    target = place(target)
    check_name(target)
    with opening.opened(target, new=new) as storage:
        yield storage


@contextmanager
def opened_pair(
    source: str, target: str, *, new: bool = False, given: bool = False, asks: bool = False
) -> Iterator[tuple[Storage, Storage]]:
    """Open a source, which must exist unless changes are `given`, and a target, which must unless it may be `new`.

    With `asks`, ask on a terminal about a target that is likely a slip, and make the folder if it is meant.

    Raises:
        UsageError: a name is wrong.
        StorageError: one of them does not exist.
    """
    source, target = place(source), place(target)
    check_name(source)
    check_name(target)
    if asks and new and (slip := opening.slip_of(target)) is not None:
        with opened(source, new=given):  # or else a folder would be made for nothing
            if _is_meant(slip):
                os.makedirs(target)
    with opening.opened_both(source, target, new_source=given, new_target=new) as pair:
        yield pair.source, pair.target


def check_name(target: str) -> None:
    """Refuse a name that cannot mean a storage.

    Raises:
        UsageError: it is empty, or that of a file.
    """
    if not target:
        message = "the name of a storage is empty: name a folder or a URL"
        raise UsageError(message)
    if scheme_of(target) is None and os.path.isfile(target):
        message = f"this is a file, not a folder; if it is a SQLite database, write sqlite:///{target}"
        raise UsageError(message, storage=target)


def _is_meant(slip: str) -> bool:
    """Ask whether to make a folder although its name looks like a slip; without a terminal it is not meant."""
    return has_terminal() and asked([slip], "Make a folder of exactly that name?")
