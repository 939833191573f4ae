"""A real folder to try things on: a copy of a tree of ordinary files."""

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

__all__ = ["Specimen", "copy_tree", "standard_library"]

PASSED_OVER = {"site-packages", "dist-packages", "__pycache__", ".kvsync", ".git", "node_modules"}


@dataclass(slots=True)
class Specimen:
    """What was copied: files, bytes, and how many files were passed over (links, odd names, unreadable)."""

    files: int = 0
    bytes: int = 0
    passed_over: int = 0


def standard_library() -> str:
    """Return the folder of the running interpreter's standard library."""
    return sysconfig.get_path("stdlib")


def copy_tree(origin: str, copy: str) -> Specimen:
    """Copy the ordinary files of a folder; the folder itself is only read.

    Raises:
        UsageError: there is no such folder, or nothing in it.
    """
    if not Path(origin).is_dir():
        message = "there is no such folder; name one that has files in it"
        raise UsageError(message, storage=origin)
    specimen = Specimen()
    for source, place in _files(origin):
        if not _ordinary(source, place):
            specimen.passed_over += 1
            continue
        target = Path(copy, place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        specimen.files += 1
        specimen.bytes += target.stat().st_size
    return specimen


def _files(origin: str) -> Iterator[tuple[Path, str]]:
    """Yield every file as its path, and its path within the folder."""
    for folder, below, names in os.walk(origin):
        # The library's `config-3.x` holds what it was built with: a few huge objects.
        kept = [name for name in below if name not in PASSED_OVER and not name.startswith("config-3")]
        below[:] = sorted(kept)
        for name in sorted(names):
            path = Path(folder, name)
            yield path, path.relative_to(origin).as_posix()


def _ordinary(path: Path, place: str) -> bool:
    """Whether a file has a plain name, is no link, and can be read."""
    # `%` has a meaning in the file names of some keys.
    plain = place.isprintable() and "%" not in place and "\\" not in place
    return plain and path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
