"""What protects values that the log does not know from being overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kvsync.digesting import digests
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.digesting import Digested
    from kvsync.options import Options
    from kvsync.replica.log import Log
    from kvsync.run.side import Side
    from kvsync.scan import Scan

__all__ = ["CheckLog", "CheckScan", "Guard", "NoCheck", "guard_of"]


class Guard(Protocol):
    """Decides what may be overwritten."""

    def examine(self, keys: Sequence[str]) -> tuple[Sequence[bytes | None] | None, dict[str, str]]:
        """Return tokens to expect (parallel to `keys`; None: no condition), and {key to leave alone: why}."""
        ...


class NoCheck:
    """The caller vouches that nobody else wrote: no condition, no look."""

    def examine(self, _keys: Sequence[str]) -> tuple[None, dict[str, str]]:
        """Expect nothing and leave nothing alone."""
        return None, {}


class CheckLog:
    """Looks at the values and leaves alone those that the log does not know."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def examine(self, keys: Sequence[str]) -> tuple[None, dict[str, str]]:
        """Leave alone every key whose value is not the one of its newest logged change."""
        reason = "its value was changed outside kvsync and is not logged yet"
        pairs = zip(digests(self._log.storage, keys), self._log.known_digests(keys), strict=True)
        return None, {key: reason for (key, found), known in pairs if _digest_of(found) not in {*known, None}}


class CheckScan:
    """Expects every key to be as the scan saw it: what changed since is a local change."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan

    def examine(self, keys: Sequence[str]) -> tuple[Sequence[bytes | None], dict[str, str]]:
        """Expect the scanned version of every key."""
        return self._scan.current.tokens(keys), {}


def guard_of(side: Side, options: Options) -> Guard:
    """Return what protects the values of a side."""
    if side.scan is not None:
        return CheckScan(side.scan)
    return CheckLog(side.log) if options.guard == "check" else NoCheck()


def _digest_of(found: Digested | Unreadable | None) -> bytes | Unreadable | None:
    return found if found is None or isinstance(found, Unreadable) else found.digest
