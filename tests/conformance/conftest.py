"""A directory in memory for what flushes to a disk with each commit; the mutants are on the path of their tests."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parent))

MEMORY = Path("/dev/shm")  # noqa: S108 - only where it is there, and a fresh directory within


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Return an empty directory: what a flush is good for shows only after a power cut."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="kvsync-test-", dir=place) as name:
        yield Path(name)
