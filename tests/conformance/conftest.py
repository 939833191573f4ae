"""A directory in memory for what flushes to a disk with each commit; the mutants are on the path of their tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from memory import folder_in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Return an empty directory."""
    with folder_in_memory() as folder:
        yield folder
