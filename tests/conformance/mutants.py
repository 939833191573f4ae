"""All broken storages: each breaks one promise of the contract."""

from __future__ import annotations

import mutants_of_conditions  # noqa: F401 - so that its classes are known
import mutants_of_hooks  # noqa: F401
import mutants_of_objects  # noqa: F401
import mutants_of_values  # noqa: F401
from mutants_of_objects import LocksItsProcessOnly
from sound import Mutant

__all__ = ["MUTANTS", "LocksItsProcessOnly"]

MUTANTS: dict[str, type[Mutant]] = {mutant.__name__: mutant for mutant in Mutant.__subclasses__()}
