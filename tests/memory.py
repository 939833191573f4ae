"""Where files of tests lie that are to wait for no disk: what a flush does shows only after a power cut."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["folder_in_memory"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - only where it is there, and a fresh directory within


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """Give an empty directory, in memory where the system has such a place."""
    place = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="kvsync-test-", dir=place) as name:
        yield Path(name)
