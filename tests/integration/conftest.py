"""A folder in memory for each test: what is tested here is order and content, not how fast a disk flushes.

Puts `places`, which the tests here share, on the import path.
"""

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
def folder() -> Iterator[Path]:
    """Return an empty directory."""
    place = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="kvsync-test-", dir=place) as name:
        yield Path(name)
