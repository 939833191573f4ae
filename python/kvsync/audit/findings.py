"""What an audit finds in the index of a storage, and what a repair does about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Finding", "Mend"]


class Mend(enum.StrEnum):
    """What a repair does about a finding."""

    NOTHING = "nothing"
    """Nothing: it does no harm."""
    SET_ASIDE = "set-aside"
    """It moves the object to `.kvsync/damaged/`, where nothing reads it."""
    RELEASE = "release"
    """It takes the lease, and releases it."""
    REBUILD = "rebuild"
    """It makes a new manifest and a new log, of what is left of the old ones and fits the values."""
    UPGRADE = "upgrade"
    """It refuses: a newer kvsync wrote the object."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one index object that is not as it should be.

    Attributes:
        storage: the name of the storage, without secrets.
        name: the object's name below `.kvsync/`.
        wrong: what is wrong with it.
        means: what follows from that, and what a repair would do.
        mend: the same as one word.
    """

    storage: str
    name: str
    wrong: str
    means: str
    mend: Mend

    @property
    def harmless(self) -> bool:
        """Whether every run works as if it were not there."""
        return self.mend is Mend.NOTHING

    def __str__(self) -> str:
        """Return it as one sentence."""
        return f"{self.name} {self.wrong}: {self.means}"
