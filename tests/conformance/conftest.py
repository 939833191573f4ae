"""Puts the mutants on the path of the suite's own tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
