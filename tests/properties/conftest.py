"""Puts the pure-Python reference, which lives with the benches, on the import path, and takes away deadlines."""

import sys
from pathlib import Path

from hypothesis import settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benches")]

if settings.get_current_profile_name() == "default":
    # A busy machine is no bug: examples are counted, not timed.
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
