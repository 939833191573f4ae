"""A story for each test; puts `telling`, and `places` of the integration tests, on the import path."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvsync.testing.simulation.pieces import small_blocks, small_pieces

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "integration")]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telling import Story

MEMORY = Path("/dev/shm")  # noqa: S108 - only where it is there, and a fresh directory within


@pytest.fixture(autouse=True)
def _small_parts() -> Iterator[None]:
    with small_pieces(), small_blocks():
        yield


@pytest.fixture
def story() -> Iterator[Story]:
    """Return a story whose folders are in memory: what is told is order and content, not how fast a disk flushes."""
    from telling import Story

    with tempfile.TemporaryDirectory(prefix="kvsync-story-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Story(Path(name))
