"""Forged manifests and segments with valid checksums: an error or the right result, and nobody else is harmed.

`python tests/hostile/forge_many.py` forges many more.
"""

from __future__ import annotations

from collections import Counter

import pytest
from meeting import meet

CASE_COUNT = 600
PART_COUNT = 6


@pytest.mark.parametrize("part", range(PART_COUNT))
def test_a_forged_replica_harms_nobody(part: int) -> None:
    outcomes = Counter(meet(seed).word for seed in range(part, CASE_COUNT, PART_COUNT))
    # A forger that is always refused, or never, tests little.
    assert outcomes["right"] > CASE_COUNT // PART_COUNT // 10
    assert outcomes["IndexDamagedError"] > CASE_COUNT // PART_COUNT // 3
