"""A folder in memory for each test: what is tested here is order and content, not how fast a disk flushes.

Puts `places`, which the tests here share, on the import path.
"""

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
def folder() -> Iterator[Path]:
    """Return an empty directory."""
    with folder_in_memory() as place:
        yield place
