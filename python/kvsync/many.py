"""`kvsync.sync_all`: make any number of storages equal, by runs between the first one and each of the others."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from kvsync import api
from kvsync.environment import Environment
from kvsync.errors import CancelledError, KvsyncError, StorageError, UsageError
from kvsync.opening import check_create, may_make, opened
from kvsync.options import Options
from kvsync.run.commit import checked
from kvsync.storages.overlap import separated
from kvsync.storages.url import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.opening import Create
    from kvsync.result import MissingKey, SyncResult
    from kvsync.storages import Target
    from kvsync.storages.contract import Storage
    from kvsync.types import Delete, Put

__all__ = ["Failure", "SyncAllResult", "sync_all"]

LEAST = 2
COMMIT_OPTIONS = ("lease_seconds", "wait_seconds")


class Failure(NamedTuple):
    """A storage whose run failed, and why."""

    storage: str
    error: KvsyncError


@dataclass(slots=True)
class SyncAllResult:
    """What the runs between a hub and other storages did.

    Attributes:
        hub: the name of the storage that all others were synced with.
        runs: the result of each run that succeeded, in order; the hub is the source of each.
        failures: the storages whose run failed.
        seconds: how long all of it took.
    """

    hub: str
    runs: list[SyncResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether all storages are equal now, as far as can be known: no run failed, or left or withheld a key."""
        left = any(run.dry_run or run.unreadable or run.withheld or run.left_out for run in self.runs)
        return not (left or self.failures or self.missing or any(run.direction == "pull" for run in self.runs))

    @property
    def missing(self) -> list[MissingKey]:
        """Keys that one of the storages does not hold after its last run."""
        last = {run.target: run for run in self.runs}
        return [missing for run in last.values() for missing in run.missing]

    @property
    def bytes(self) -> int:
        """The size of the values that were moved, by all runs."""
        return sum(run.bytes for run in self.runs)

    def to_dict(self) -> dict[str, object]:
        """Return the result as plain values, for JSON, without secrets."""
        return {
            "hub": redact(self.hub),
            "equal": self.equal,
            "bytes": self.bytes,
            "runs": [run.to_dict() for run in self.runs],
            "failures": [{"storage": redact(storage), "error": redact(str(error))} for storage, error in self.failures],
            "seconds": round(self.seconds, 6),
        }


class _Spoke(NamedTuple):
    """A storage that is synced with the hub: open, or why it cannot be opened."""

    name: str
    storage: Storage | KvsyncError


def sync_all(
    storages: Sequence[Target],
    changes: Sequence[Put | Delete] = (),
    *,
    create: Create = "auto",
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
    environment: Environment | None = None,
    **options: Any,
) -> SyncAllResult:
    """Make any number of storages equal, moving only what changed.

    The first one is the hub. It is synced with each of the others, and then with each of them once more, so that all
    get what the later ones brought. The second time nothing is scanned, and values are looked at before they are
    overwritten.

    A storage that fails stops none of the others; it is among the `failures`.

    Args:
        storages: two or more, the hub first; each as in `sync`.
        changes: changes to write to the hub first, as in `sync`.
        create: which storages need not exist yet: "auto": all but the hub, and that too if `changes` are given;
            "target": all but the hub; "both": any; "none".
        dry_run: write nothing. What one storage would bring to another by way of the hub is not foreseen.
        clock: returns wall-clock seconds.
        environment: replaces time, sleep and randomness, for simulations; overrides `clock`.
        options: those of `sync`, for each run. The source of a policy is the hub. What it has decided against one
            storage is a change as any other, and competes by its time with what the next one brings.

    Returns:
        The result of every run, and what failed.

    Raises:
        UsageError: the call is wrong, or two of the storages are the same.
        StorageError: the hub cannot be opened.
        CancelledError: `cancel` was set.
        KvsyncError: the changes cannot be written.

    >>> import kvsync
    >>> a, b, c = {"x": b"1"}, {"y": b"2"}, {"z": b"3"}
    >>> kvsync.sync_all([a, b, c], scan=True).equal, sorted(b)[-3:]
    (True, ['x', 'y', 'z'])
    """
    if len(storages) < LEAST:
        message = "name at least two storages: the hub, and those to be synced with it"
        raise UsageError(message)
    check_create(create)
    given = Options(**{field.name: options[field.name] for field in fields(Options) if field.name in options})
    environment = environment or Environment(clock=clock)
    started = environment.monotonic()
    changes = checked(changes)
    new_hub = create == "both" or (create == "auto" and may_make(changes))
    with opened(storages[0], new=new_hub) as first, ExitStack() as closing:
        hub, spokes = _separated(first, [_opened(each, closing, new=create != "none") for each in storages[1:]])
        if changes and not dry_run:
            wait = {name: options[name] for name in COMMIT_OPTIONS if name in options}
            api.commit(hub, changes, environment=environment, **wait)
            changes = []
        result = SyncAllResult(hub.name)

        def sync(spoke: Storage, **these: Any) -> bool:
            run = {"create": "both", "dry_run": dry_run, "environment": environment, **options, **these}
            return _run(result, spoke, lambda: api.sync(hub, spoke, changes, **run))

        for name, each in spokes:
            if isinstance(each, KvsyncError):
                result.failures.append(Failure(name, each))
        met = [each for _, each in spokes if not isinstance(each, KvsyncError) and sync(each)]
        if given.direction == "both" and not dry_run:  # one way, the hub has nothing that came from a later one
            again = {"scan": False, "guard": "check"} if given.scan else {}
            for each in met[:-1]:  # the last one has met what all others brought
                sync(each, **again)
    result.seconds = environment.monotonic() - started
    return result


def _run(result: SyncAllResult, spoke: Storage, run: Callable[[], Any]) -> bool:
    """Make a run and note what came of it; return whether it succeeded."""
    try:
        result.runs.append(run())
    except CancelledError:
        raise
    except KvsyncError as error:
        result.failures.append(Failure(spoke.name, error))
        return False
    return True


def _opened(target: Target, closing: ExitStack, *, new: bool) -> _Spoke:
    """Open a storage, or return why it cannot be opened.

    Raises:
        UsageError: it is named wrongly.
    """
    try:
        storage = closing.enter_context(opened(target, new=new))
    except UsageError:
        raise
    except KvsyncError as error:
        return _Spoke(error.storage or "a storage", error)
    return _Spoke(storage.name, storage)


def _separated(hub: Storage, spokes: Sequence[_Spoke]) -> tuple[Storage, list[_Spoke]]:
    """Return all storages without what belongs to another one of them: any two would meet by way of the hub.

    Raises:
        SameStorageError: two are the same storage, or one is within the other.
    """
    found: dict[int, Storage] = {0: hub}
    found |= {at: each for at, (_, each) in enumerate(spokes, 1) if not isinstance(each, KvsyncError)}
    for one, other in combinations(list(found), 2):
        try:
            found[one], found[other] = separated(found[one], found[other])
        except StorageError:  # one that does not answer is told by its own run
            continue
    return found[0], [spoke._replace(storage=found.get(at, spoke.storage)) for at, spoke in enumerate(spokes, 1)]
