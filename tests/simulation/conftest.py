"""Puts the simulator's own modules on the path of its tests, and cuts inventories and logs into small parts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvsync.testing.simulation.pieces import small_blocks, small_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _small_parts() -> Iterator[None]:
    with small_pieces(), small_blocks():
        yield
