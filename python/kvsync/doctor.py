"""What a storage can do, found by trying, and what is wrong with it, in plain words."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from kvsync.errors import KvsyncError, StorageError
from kvsync.index.objects import MANIFEST
from kvsync.probe import Probe, probe
from kvsync.replica.session import read_manifest
from kvsync.run.holder import read_lease
from kvsync.storages.contract import Tier, has_dry_probe, has_foreign

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.environment import Environment
    from kvsync.storages.contract import Capabilities, Storage

__all__ = ["Diagnosis", "diagnose"]


@dataclass(slots=True)
class Diagnosis:
    """What trying a storage showed.

    Attributes:
        storage: its name, without secrets.
        guarantee: what it guarantees, as far as the probe showed; None if it could not be probed.
        capabilities: what its adapter says of it.
        probe: what it did with conditional writes; None where it could not be tried.
        unmade: what the first run makes here, where nothing could be tried without making it; else empty.
        foreign: entries that are no values and are passed over, by name; the first hundred.
        wrong: what is wrong and what to do, one sentence each; empty where nothing is.
    """

    storage: str
    capabilities: Capabilities
    guarantee: Tier | None = None
    probe: Probe | None = None
    unmade: str = ""
    foreign: tuple[str, ...] = ()
    wrong: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether a run may use it as it is."""
        return not self.wrong

    @property
    def round_trip_seconds(self) -> float | None:
        """How long one small write takes, as a rule; None where none was made."""
        return median(self.probe.seconds) if self.probe is not None else None


def diagnose(storage: Storage, environment: Environment) -> Diagnosis:
    """Try a storage: list it, read its index, write and remove one small index object in ways it must refuse.

    Nothing stays of it; what would have to be made for a try is told instead.

    One that does not even let its manifest be read is not tried any further: each try may wait for a time-out.
    """
    found = Diagnosis(storage.name, storage.capabilities)
    if isinstance(_note(found, lambda: read_manifest(storage)), StorageError):
        return found
    _note(found, lambda: read_lease(storage))
    _note(found, lambda: next(iter(storage.scan()), None))
    found.foreign = storage.foreign if has_foreign(storage) else ()
    _note(found, lambda: _try(found, storage, environment))
    found.capabilities = storage.capabilities  # some storages learn from their server what they can do
    return found


def _try(found: Diagnosis, storage: Storage, environment: Environment) -> None:
    """Probe a storage so that nothing is there afterwards that was not before."""
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
            f"it ignores conditions: {'; '.join(found.probe.ignored)}. No lease holds here, so kvsync refuses to use "
            "it unless its URL says lease=advisory, for a storage that nobody else ever writes to"
        )


def _note(found: Diagnosis, check: Callable[[], object]) -> KvsyncError | None:
    """Make a check; note what goes wrong, once, and return it."""
    try:
        check()
    except KvsyncError as error:
        if error.message not in found.wrong:
            found.wrong.append(error.message)
        return error
    return None
