"""Have pytest show the values of a failed assertion of the suite, as it does for test files.

Imported before any module that has assertions, since pytest rewrites a module when it is imported.
"""

from __future__ import annotations

import os
from pkgutil import iter_modules

import pytest

__all__: list[str] = []

PACKAGE, _, OWN_NAME = __name__.rpartition(".")

pytest.register_assert_rewrite(
    *(f"{PACKAGE}.{part.name}" for part in iter_modules([os.path.dirname(__file__)]) if part.name != OWN_NAME)
)
