"""Find out by tests what a storage supports, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from kvsync.environment import Environment
from kvsync.errors import KvsyncError, StorageError
from kvsync.index.objects import MANIFEST
from kvsync.probe import Probe, probe
from kvsync.replica.log import Log, read_manifest
from kvsync.replica.unleased import look
from kvsync.run.holder import read_lease, try_lease
from kvsync.storages.contract import Tier, has_dry_probe, has_skipped, has_streaming
from kvsync.storages.journal import has_journal
from kvsync.storages.limits import has_limits
from kvsync.storages.overlap import folder_around
from kvsync.storages.wording import shown
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Capabilities, Storage
    from kvsync.storages.journal import SupportsJournal
    from kvsync.types import Skipped

__all__ = ["Diagnosis", "diagnose"]

LOOKED_AT_MAX = 100
"""A diagnosis reads at most so many values that the listing could not tell a token of."""


@dataclass(slots=True)
class Diagnosis:
    """What the tests of a storage showed.

    Attributes:
        storage: its name, without secrets.
        guarantee: the tier that follows, "T1" to "T4"; None if the storage could not be tested.
        capabilities: what its adapter declares.
        probe: how it handled conditional writes; None if that could not be tested.
        unmade: what the first run will create here, if nothing could be tested without creating it; else empty.
        skipped: entries that a scan skips, since they are not values or their names cannot be keys.
        limits: what this table, bucket or server does not keep as given, or may lose by itself, one sentence each.
        notes: what else to know, one sentence each.
        wrong: the problems, one sentence each, with what to do; empty if there are none.
    """

    storage: str
    capabilities: Capabilities
    guarantee: Tier | None = None
    probe: Probe | None = None
    unmade: str = ""
    skipped: tuple[Skipped, ...] = ()
    limits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether a run can use the storage as it is."""
        return not self.wrong

    @property
    def round_trip_seconds(self) -> float | None:
        """The median time of one small write; None if none was made."""
        return median(self.probe.seconds) if self.probe is not None else None


def diagnose(storage: Storage, environment: Environment) -> Diagnosis:
    """Test a storage: list it, read its index, and try conditional writes of one small index object.

    Where conditions have to be proved, also acquire and release the lease, if there is one and it is free.

    Leaves nothing behind. What would have to be created for a test, and would stay, is reported instead. If even the
    manifest cannot be read, no more tests are made, since each may wait for a timeout.
    """
    found = Diagnosis(storage.name, storage.capabilities)
    if isinstance(_note(found, lambda: read_manifest(storage)), StorageError):
        return found
    _note(found, lambda: read_lease(storage))
    _note(found, lambda: _look(found, storage))
    if has_limits(storage):
        _note(found, lambda: found.limits.extend(storage.limits()))
    if has_journal(storage):
        _note(found, lambda: _look_at_journal(found, storage))
    if folder := folder_around(storage):
        found.notes.append(
            f"its files are in the folder {folder!r:.300}, which kvsync syncs: a run of the two leaves them out, and "
            "a run of that folder with another storage copies them as they are at that moment"
        )
    _note(found, lambda: _test(found, storage, environment))
    if storage.capabilities.conditions == "claimed":
        _note(found, lambda: try_lease(storage, environment))
    found.capabilities = storage.capabilities  # some storages learn from their server what it supports
    return found


def _look(found: Diagnosis, storage: Storage) -> None:
    """List a storage, as far as that reads no values, and note what a run would leave behind."""
    unsure: list[str] = []
    for keys, tokens in storage.scan():
        unsure += [key for key, token in zip(keys, tokens, strict=True) if not token or _is_shut(storage, key)]
        if storage.capabilities.tokens == "blake3":
            break  # the rest would take reading every value
    unsure = unsure[:LOOKED_AT_MAX]
    for key, value in zip(unsure, storage.read(unsure) if unsure else [], strict=True):
        if isinstance(value, Unreadable):
            found.wrong.append(f"the value of {shown(key)} cannot be read: {value.reason}")
    found.skipped = storage.skipped if has_skipped(storage) else ()
    _look_at_known(found, storage)
    found.wrong += [
        f"{shown(entry.name)} is left behind: {entry.reason}" for entry in found.skipped if not entry.harmless
    ]


def _look_at_journal(found: Diagnosis, storage: SupportsJournal) -> None:
    """Note whether a storage is tracked, and what is wrong with its journal."""
    journal = storage.journal(count_max=0)
    if journal is None:
        found.notes.append("it is not tracked: scans look at everything")
        return
    found.notes.append("it is tracked: scans look only at what its journal names")
    if journal.fault:
        found.wrong.append(journal.fault)


def _is_shut(storage: Storage, key: str) -> bool:
    """Whether a value on a disk cannot be opened, which its token does not tell; elsewhere nothing is asked."""
    if storage.capabilities.distance != "disk" or not has_streaming(storage):
        return False
    return isinstance(storage.read_stream(key), Unreadable)


def _look_at_known(found: Diagnosis, storage: Storage) -> None:
    """Note the keys of values at whose place something else is by now, such as a link: a run leaves them behind."""
    reasons = {entry.name: entry.reason for entry in found.skipped if entry.harmless}
    if not reasons:
        return
    keys = sorted(reasons)
    for change in look([storage], lambda: Log.read(storage, Environment(), dry=True).newest(keys)):
        if change is not None and not change.deletes:
            found.wrong.append(f"there was a value at {shown(change.key)}, and now {reasons[change.key]}")


def _test(found: Diagnosis, storage: Storage, environment: Environment) -> None:
    """Probe a storage, and leave nothing behind."""
    if not has_dry_probe(storage) or storage.load(MANIFEST) is not None:
        _probe(found, storage, environment)
        return
    with storage.dry_probe() as unmade:
        if not unmade:
            _probe(found, storage, environment)
        else:
            found.unmade = unmade
            found.guarantee = storage.capabilities.tier


def _probe(found: Diagnosis, storage: Storage, environment: Environment) -> None:
    found.probe = probe(storage, environment)
    sound = found.probe.sound or storage.capabilities.conditions == "advisory"
    found.guarantee = storage.capabilities.tier if found.probe.sound else Tier.ADVISORY
    if not sound:
        found.wrong.append(
            f"it ignores the conditions of writes: {'; '.join(found.probe.ignored)}. A lease excludes nobody here, so "
            "kvsync refuses to use it; if nobody else ever writes to it, add lease=advisory to its URL"
        )


def _note(found: Diagnosis, check: Callable[[], object]) -> KvsyncError | None:
    """Make a check; record its error once, and return it."""
    try:
        check()
    except KvsyncError as error:
        if error.message not in found.wrong:
            found.wrong.append(error.message)
        return error
    return None
