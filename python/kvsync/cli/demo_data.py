"""The data of the demo: a copy of a real folder."""

from __future__ import annotations

import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Copied", "copy_tree", "standard_library"]

SKIPPED = {"site-packages", "dist-packages", "__pycache__", ".kvsync", ".git", "node_modules"}


@dataclass(slots=True)
class Copied:
    """What was copied, and how many files were skipped (links, odd names, unreadable ones)."""

    files: int = 0
    bytes: int = 0
    skipped: int = 0


def standard_library() -> str:
    """Return the folder of the running interpreter's standard library."""
    return sysconfig.get_path("stdlib")


def copy_tree(origin: str, copy: str) -> Copied:
    """Copy the ordinary files of a folder, which is only read.

    Raises:
        UsageError: there is no such folder.
    """
    if not Path(origin).is_dir():
        message = "there is no such folder; name one that contains files"
        raise UsageError(message, storage=origin)
    copied = Copied()
    for source, place in _files(origin):
        if not _ordinary(source, place):
            copied.skipped += 1
            continue
        target = Path(copy, place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        copied.files += 1
        copied.bytes += target.stat().st_size
    return copied


def _files(origin: str) -> Iterator[tuple[Path, str]]:
    """Yield every file as its path, and its path within the folder."""
    for folder, below, names in os.walk(origin):
        # `config-3.x` in the standard library has a few huge object files.
        kept = [name for name in below if name not in SKIPPED and not name.startswith("config-3")]
        below[:] = sorted(kept)
        for name in sorted(names):
            path = Path(folder, name)
            yield path, path.relative_to(origin).as_posix()


def _ordinary(path: Path, place: str) -> bool:
    """Whether a file has a plain name, is no link, and can be read."""
    # `%` has a meaning in file names that stand for unusual keys.
    plain = place.isprintable() and "%" not in place and "\\" not in place
    return plain and path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
