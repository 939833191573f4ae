"""How much a scan may find deleted or overwritten before it stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import BudgetError
from kvsync.storages.wording import first_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Budget", "check_budget"]

FLOOR_COUNT = 3
"""The default budget allows so many whatever the part: who edits one note of one has lost nothing."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many keys a scan may find deleted or overwritten: a number, or a part of the keys last seen."""

    count: int | None = None
    part: float = 0.5
    floor: int = 0

    @classmethod
    def parse(cls, text: str | int | None) -> Budget:
        """Read `N`, `"N"` or `"P%"`; None is the default, half of the keys.

        Raises:
            ValueError: it is neither.
        """
        if text is None:
            return cls(floor=FLOOR_COUNT)
        words = str(text).strip()
        if words.endswith("%"):
            part = float(words[:-1]) / 100
            if not 0 <= part <= 1:
                message = f"not a percentage: {text!r}"
                raise ValueError(message)
            return cls(part=part)
        if int(words) < 0:
            message = f"not a number of keys: {text!r}"
            raise ValueError(message)
        return cls(count=int(words))

    def allows(self, touched: int, known: int) -> bool:
        """Whether `touched` of `known` keys may be deleted or overwritten."""
        return touched <= max(self.floor, self.count if self.count is not None else known * self.part)

    @property
    def everything(self) -> bool:
        """Whether even an empty listing is to be believed."""
        return self.count is None and self.part >= 1


def check_budget(
    name: str, budget: Budget, known: int, deletes: Sequence[str], overwritten: Sequence[str], *, emptied: bool
) -> None:
    """Stop a scan that found more deleted or overwritten than allowed.

    Raises:
        BudgetError: it did, or everything is gone.
    """
    touched = len(deletes) + len(overwritten)
    all_gone = bool(deletes) and emptied and not budget.everything
    if all_gone:
        gone = "the only key is gone" if known == 1 else f"all {known} keys are gone"
        message = (
            f"{gone}. If that is intended, allow it with max_delete='100%'. If not, check that the right storage is "
            "mounted and named; if it lost its values, `kvsync verify --refill` (in Python verify with refill=True) "
            "brings them back from another storage"
        )
    elif not budget.allows(touched, known):
        message = (
            f"since the last scan, {len(deletes)} of {known} keys were deleted and {len(overwritten)} overwritten, "
            f"more than max_delete allows: {first_keys([*deletes, *overwritten])}"
        )
    else:
        return
    raise BudgetError(message, storage=name, deleted=deletes, overwritten=overwritten, known=known, emptied=all_gone)
