"""Exit codes, and the exit code of each error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvsync.errors import BudgetError, ConflictError, LockError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BROKEN_PIPE",
    "BUDGET",
    "CONFLICTS",
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "LOCKED",
    "SIGNALLED",
    "USAGE",
    "combined",
    "exit_code_of",
]

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CONFLICTS: Final = 3
LOCKED: Final = 4
BUDGET: Final = 5
SIGNALLED: Final = 128
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (UsageError, USAGE),
    (ConflictError, CONFLICTS),
    (LockError, LOCKED),
    (BudgetError, BUDGET),
)


def exit_code_of(error: Exception) -> int:
    """Return the exit code for an error.

    >>> from kvsync import UsageError
    >>> exit_code_of(UsageError("no such option")), exit_code_of(OSError())
    (2, 1)
    """
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def combined(codes: Iterable[int]) -> int:
    """Return the exit code of a command that made several runs: that of those which failed, if they agree, else 1.

    >>> combined([0, 0]), combined([0, 4, 4]), combined([4, 5]), combined([])
    (0, 4, 1, 0)
    """
    failed = set(codes) - {DONE}
    if not failed:
        return DONE
    return failed.pop() if len(failed) == 1 else FAILED
