"""What protects values that the log does not know from being overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kvsync.digesting import digests
from kvsync.expiry import may_be_gone
from kvsync.run.look import Look
from kvsync.storages.contract import has_expiry
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.digesting import Digested
    from kvsync.options import Options
    from kvsync.replica.log import Log
    from kvsync.run.side import Side
    from kvsync.scan import Scan
    from kvsync.storages.contract import Storage

__all__ = ["CheckLog", "CheckScan", "Guard", "NoCheck", "guard_of"]

CHANGED = "its value was changed outside kvsync and is not logged yet"
DELETED = "it was deleted outside kvsync, and that is not logged yet"


class Guard(Protocol):
    """Decides what may be overwritten or, with `deletes`, deleted."""

    def examine(
        self, keys: Sequence[str], *, deletes: bool = False
    ) -> tuple[Sequence[bytes | None] | None, dict[str, str]]:
        """Return tokens to expect (parallel to `keys`; None: no condition), and {key to leave alone: why}."""
        ...


class NoCheck:
    """The caller vouches that nobody else wrote: no condition, no look."""

    def examine(self, _keys: Sequence[str], *, deletes: bool = False) -> tuple[None, dict[str, str]]:  # noqa: ARG002
        """Expect nothing and leave nothing alone."""
        return None, {}


class CheckLog:
    """Looks at the values, leaves alone what the log does not know, and expects what it saw."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._look = Look(log.storage)

    def examine(self, keys: Sequence[str], *, deletes: bool = False) -> tuple[Sequence[bytes | None], dict[str, str]]:
        """Leave alone every key that is not as its newest logged change says."""
        seen = dict(self._look.at(keys))
        known = dict(zip(keys, self._log.known_digests(keys), strict=True))
        barred = {key: why for key in seen if (why := _why_alone(seen[key].found, known[key]))}
        gone = [key for key in keys if seen[key].found is None and b"" not in known[key]]
        if gone and not deletes:
            barred.update(dict.fromkeys(self._deleted(gone), DELETED))
        return [seen[key].token for key in keys], barred

    def _deleted(self, keys: Sequence[str]) -> list[str]:
        """Return the keys where somebody deleted a value: it did not expire."""
        if not has_expiry(self._log.storage):
            return list(keys)
        now_ms = self._log.environment.now_ms()
        # When the value that is held in place of a missing one expires is not logged.
        missing = {entry.change.key for entry in self._log.manifest.knowledge.missing}
        logged = zip(keys, self._log.newest(keys), strict=True)
        return [key for key, row in logged if key not in missing and row and not may_be_gone(row.expires, now_ms)]


class CheckScan:
    """Expects every key to be as the scan saw it: what changed since is a local change.

    A token cannot always prove that. Where it does not, what stands there is compared by its digest, too.
    """

    def __init__(self, scan: Scan, storage: Storage) -> None:
        self._scan = scan
        self._storage = storage

    def examine(
        self,
        keys: Sequence[str],
        *,
        deletes: bool = False,  # noqa: ARG002
    ) -> tuple[Sequence[bytes | None], dict[str, str]]:
        """Expect the scanned version of every key; leave alone what has changed under the same version."""
        unproven = self._scan.unproven(self._storage, keys)
        pairs = zip(digests(self._storage, unproven), self._scan.current.digests(unproven), strict=True)
        barred = {key: why for (key, found), known in pairs if (why := _why_alone(found, {known}))}
        self._scan.distrust(barred)
        return self._scan.current.tokens(keys), barred


def guard_of(side: Side, options: Options) -> Guard:
    """Return what protects the values of a side."""
    if side.scan is not None:
        # A journal is no proof that a value is as it was: some writes fire no trigger.
        return CheckLog(side.log) if side.scan.is_tracked else CheckScan(side.scan, side.storage)
    return CheckLog(side.log) if options.guard == "check" else NoCheck()


def _why_alone(found: Digested | Unreadable | None, known: set[bytes] | set[bytes | None]) -> str:
    """Return why what is at a key is left alone; nothing if it is known, or nothing is there."""
    if isinstance(found, Unreadable):
        return f"it cannot be read: {found.reason}"
    return CHANGED if found is not None and found.digest not in known else ""
