"""The listing of a folder: every key with its token, in UTF-8 byte order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.contract import RESERVED, SKIPPED_MAX
from kvsync.storages.folder.keyname import is_reserved
from kvsync.storages.folder.values import paths_of, token_of
from kvsync.types import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvsync.storages.folder.keyname import Naming
    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.folder.values import ValueFiles

__all__ = ["list_tree"]


def list_tree(
    tree: SafeTree, naming: Naming, files: ValueFiles, storage: str, skipped: list[Skipped]
) -> Iterator[tuple[str, bytes]]:
    """Return every key with its token, ascending; add to `skipped` what is neither a file nor a directory.

    Names in a directory sort differently from keys in a tree (`a.b` and `a/b`), so collect all of them first.

    Raises:
        StorageError: a name is not UTF-8, so it cannot be a key.
        OSError: a directory cannot be listed.
    """
    found: list[tuple[str, bytes]] = []
    doubtful = False
    pending = [""]
    while pending:
        path = pending.pop()
        for name, token in _listed(tree, path, storage, skipped):
            below = f"{path}/{name}" if path else name
            if is_reserved(name):
                _pass_over(name, below, token, naming, storage)
                continue
            if token is None:
                pending.append(below)
                continue
            key = naming.decode(below)
            doubtful = doubtful or key != below or naming.is_special(key)
            found.append((key, token))
    found.sort()
    return _without_doubles(found, naming, files) if doubtful else iter(found)


def _listed(tree: SafeTree, path: str, storage: str, skipped: list[Skipped]) -> list[tuple[str, bytes | None]]:
    """Return the files of a directory with their tokens, and its directories with None."""
    listed: list[tuple[str, bytes | None]] = []
    for entry in tree.entries(path):
        _check_name(entry.name, path, storage)
        if entry.is_dir(follow_symlinks=False):
            listed.append((entry.name, None))
        elif entry.is_file(follow_symlinks=False):
            try:
                listed.append((entry.name, token_of(entry.stat(follow_symlinks=False))))
            except FileNotFoundError:
                continue  # deleted since it was listed
        elif len(skipped) < SKIPPED_MAX:
            skipped.append(Skipped(f"{path}/{entry.name}" if path else entry.name, "it is not a regular file"))
    return listed


def _pass_over(name: str, path: str, token: bytes | None, naming: Naming, storage: str) -> None:
    """Accept our own index, and that of a folder within this one, which is synced by itself.

    Raises:
        StorageError: it is something else, which would be skipped silently.
    """
    if token is None and (name == RESERVED or naming.folds):
        return
    message = f"{path!r:.400} cannot be a key, since names like {RESERVED} are reserved: rename or move it"
    raise StorageError(message, storage=storage)


def _check_name(name: str, path: str, storage: str) -> None:
    if name.isascii():
        return
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = repr((f"{path}/{name}" if path else name).encode(errors="surrogateescape"))
        message = f"the file name {shown:.400} is not UTF-8, so it cannot be a key: rename or move it"
        raise StorageError(message, storage=storage) from error


def _without_doubles(found: list[tuple[str, bytes]], naming: Naming, files: ValueFiles) -> Iterator[tuple[str, bytes]]:
    """Yield each key once; if it has several files, the first of its paths counts."""
    last: str | None = None
    for position, (key, token) in enumerate(found):
        if key == last:
            continue
        last = key
        double = position + 1 < len(found) and found[position + 1][0] == key
        counted = files.winner(key) if double and paths_of(naming, key) else token
        if counted is not None:
            yield key, counted
