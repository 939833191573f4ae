"""Whether an index object is in the state that a call expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.storages.contract import ObjectMismatch
from kvsync.types import ABSENT, ANY

if TYPE_CHECKING:
    from kvsync.types import Expectation, Stored

__all__ = ["require_version"]


def require_version(name: str, there: Stored | None, expect: Expectation) -> None:
    """Make sure that an index object, as it is there, is the expected one.

    >>> require_version("lease", None, ABSENT)

    Raises:
        ObjectMismatch: it is not.
    """
    if expect is not ANY and (ABSENT if there is None else there.version) != expect:
        raise ObjectMismatch(name)
