"""Puts the pure-Python reference, which lives with the benches, on the import path, and says how many examples."""

import sys
from pathlib import Path

from hypothesis import settings
from variants import amount

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "benches")]

if settings.get_current_profile_name() == "default":
    # A busy machine is no bug: examples are counted, not timed.
    settings.register_profile("untimed", deadline=None, max_examples=amount(100, 5000))
    settings.load_profile("untimed")
