"""Read every byte of a storage's index, and say what is wrong with which object."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from kvsync.audit.findings import Finding, Mend
from kvsync.environment import utc
from kvsync.errors import FormatError, IndexDamagedError
from kvsync.index import bounds
from kvsync.index.inventory import Inventory, load_piece
from kvsync.index.lost import LOST_PREFIX, decode_lost
from kvsync.index.manifest import Manifest
from kvsync.index.objects import INVENTORY, LEASE, MANIFEST, PACK_PREFIX, PIECE_PREFIX, reason_of, segment_name
from kvsync.lease import LeaseRecord, LeaseState, Previous
from kvsync.native import Segment
from kvsync.probe import PROBE_PREFIX
from kvsync.replica.base import Base, is_directory
from kvsync.replica.segments import Segments
from kvsync.run.unkept import UNKEPT_PREFIX
from kvsync.storages.journal import JOURNAL_OBJECT
from kvsync.storages.read_only import OF_PREFIX
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.index.manifest import SegmentEntry
    from kvsync.lease import Lease
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation

__all__ = ["DAMAGED_PREFIX", "GENERATION_MAX", "SEGMENT_PREFIX", "Index", "decoded", "generation_of", "look"]

SEGMENT_PREFIX = "segment/"
DAMAGED_PREFIX = "damaged/"
"""Where a repair puts what it cannot mend; nothing reads that."""

LOOKS = 3
"""How often an index is read that another run may be changing meanwhile."""

GENERATION_MAX = 2**63
"""No manifest was ever written so often: a name with a later generation is none of ours."""

_AT_BYTE = re.compile(r"\A.*?damaged at byte (?=\d)", re.DOTALL)
"""How the decoder begins what it found, whatever was put before it."""

LOG = "the log is not whole; a repair makes a new one of what is left of it and fits the values"
INTENT = "what an interrupted run was about to write is not known; the next scan finds what it wrote"
OF_LOG = "what it said of the log is not known any more"
LOST = "values in it had lost conflicts, and cannot be had back; all else is as it was"
UNKEPT = "values that lost a conflict and could not be read then are not kept once they can be"
SEEN = "the next scan derives from the log what was there, and reads all values"
HOLDER = "who holds it is not known; a repair takes it and releases it, and a run that is under way fails by that"
FUTURE = "no run takes it; a repair makes a new log that names no time after now, so check the clock here first"
NEWER = "a newer kvsync wrote it: upgrade kvsync"
LEFTOVER = "nothing reads it; `kvsync compact` removes it"
FOREIGN = "nothing reads it"


@dataclass(slots=True)
class Index:
    """The index of one storage, as far as it can be read.

    Attributes:
        storage: whose index it is.
        names: of all its objects.
        latest_ms: the latest time that it may name, in wall-clock milliseconds.
        findings: what is wrong with it.
        data: the bytes of the manifest, readable or not; None where there is none.
        version: of the manifest.
        manifest: what it says; None where it is absent or cannot be read.
        segments: those that it lists and that are intact, oldest to newest.
        bases: those in blocks whose directory is intact.
        inventory: what the last scan saw; None where it is absent or cannot be read.
        on_read: called before each object is decoded, to keep a lease.
    """

    storage: Storage
    names: list[str]
    latest_ms: int
    findings: list[Finding] = field(default_factory=list)
    data: bytes | None = None
    version: Expectation = ABSENT
    manifest: Manifest | None = None
    segments: list[Segment] = field(default_factory=list)
    bases: list[Base] = field(default_factory=list)
    inventory: Inventory | None = None
    on_read: Callable[[], None] = lambda: None

    @property
    def packs(self) -> set[str]:
        """The names of the packs that the log lies in, as far as that is known."""
        return {pack for base in self.bases for pack in base.directory.packs}

    def find(self, name: str, wrong: str, means: str, mend: Mend) -> None:
        """Add a finding."""
        self.findings.append(Finding(self.storage.name, name, wrong, means, mend))

    def read(self, name: str, decode: Callable[[], object], means: str, mend: Mend) -> bool:
        """Decode an object; where that fails, add the finding. Return whether it did not."""
        self.on_read()
        try:
            decode()
        except FormatError as error:
            self.find(name, f"cannot be read: {error.message}", NEWER, Mend.UPGRADE)
        except IndexDamagedError as error:
            # Of a segment in blocks, one of its packs may be what is damaged.
            found = error.name if error.name is not None and error.name.startswith(PACK_PREFIX) else name
            self.find(found, _AT_BYTE.sub("is damaged at byte ", reason_of(error)), means, mend)
        else:
            return True
        return False

    def mends(self, *kinds: Mend) -> list[Finding]:
        """Return the findings that are mended in one of these ways."""
        return [finding for finding in self.findings if finding.mend in kinds]


def look(storage: Storage, latest_ms: int, lease: Lease | None = None) -> Index:
    """Read all of an index, which may name times up to `latest_ms`.

    Whoever holds its `lease` knows that nobody else writes it meanwhile.

    Raises:
        StorageError: the storage failed.
    """
    if lease is not None:
        return _look(storage, latest_ms, lease)
    index = _look(storage, latest_ms)
    for _ in range(LOOKS - 1):
        there = storage.load(MANIFEST)
        if not index.findings or (ABSENT if there is None else there.version) == index.version:
            break
        # Another run was at work: what was missing may have been merged away.
        index = _look(storage, latest_ms)
    return index


def generation_of(name: str) -> int:
    """Return the generation in the name of a segment; 0 where it has none.

    >>> generation_of("segment/000000000000001a-0"), generation_of("lease")
    (26, 0)
    """
    digits = name.removeprefix(SEGMENT_PREFIX).partition("-")[0]
    try:
        generation = int(digits, 16) if name.startswith(SEGMENT_PREFIX) else 0
    except ValueError:
        return 0
    return generation if 0 < generation < GENERATION_MAX else 0


def decoded(storage: Storage, name: str, data: bytes) -> Segment | Base:
    """Decode a segment, or what one in blocks consists of.

    Raises:
        IndexDamagedError: it fails its checks.
        FormatError: a newer kvsync wrote it.
    """
    return Base.decode(storage, name, data) if is_directory(data) else Segment.decode(data, name)


def _look(storage: Storage, latest_ms: int, ours: Lease | None = None) -> Index:
    index = Index(storage, storage.objects(), latest_ms)
    if ours is not None:
        index.on_read = ours.keep
    lease = _check_lease(index)
    if ours is not None:
        was_left_open = ours.previous.how is not Previous.RELEASED
    else:
        was_left_open = lease is not None and lease.state is not LeaseState.RELEASED
    _check_manifest(index, may_be_first=was_left_open)
    _check_inventory(index)
    known = {MANIFEST, LEASE, INVENTORY}
    if index.inventory is not None:
        known.update(entry.name for entry in index.inventory.stored)
        known.update(index.inventory.garbage)
    if index.manifest is not None:
        _check_log(index, index.manifest)
        known.update(entry.name for entry in index.manifest.segments)
        known.update(index.packs)
    for name in index.names:
        if name not in known:
            _check_other(index, name)
    return index


# The objects that a run reads first


def _check_lease(index: Index) -> LeaseRecord | None:
    there = index.storage.load(LEASE)
    records: list[LeaseRecord] = []
    if there is not None:
        data = there.data
        index.read(LEASE, lambda: records.append(LeaseRecord.decode(data, index.storage.name)), HOLDER, Mend.RELEASE)
    return records[0] if records else None


def _check_manifest(index: Index, *, may_be_first: bool) -> None:
    there = index.storage.load(MANIFEST)
    if there is None:
        if _had_manifest(index.names, may_be_first=may_be_first):
            index.find(MANIFEST, "is missing, though other objects of the index are there", LOG, Mend.REBUILD)
        return
    index.data, index.version = there

    def decode() -> None:
        index.manifest = Manifest.decode(there.data, index.storage.name)

    index.read(MANIFEST, decode, LOG, Mend.REBUILD)


def _had_manifest(names: list[str], *, may_be_first: bool) -> bool:
    """Whether objects are there that a storage without a manifest does not have.

    A first run that did not end may have stored its intent; that is recovered without a repair.
    """
    prefixes = (SEGMENT_PREFIX, LOST_PREFIX, UNKEPT_PREFIX, PIECE_PREFIX, PACK_PREFIX)
    found = {name for name in names if name.startswith(prefixes) or name == INVENTORY}
    return bool(found - {segment_name(1)} if may_be_first else found)


def _check_inventory(index: Index) -> None:
    there = index.storage.load(INVENTORY)
    if there is None:
        if index.manifest is not None and index.manifest.inventory:
            index.find(INVENTORY, "is missing", SEEN, Mend.NOTHING)
        return

    def decode() -> None:
        index.inventory = Inventory.decode(there.data, index.storage.name)

    index.read(INVENTORY, decode, SEEN, Mend.SET_ASIDE)
    if index.inventory is not None:
        _check_pieces(index, index.inventory)


def _check_pieces(index: Index, inventory: Inventory) -> None:
    for run in inventory.runs:
        for entry in run:
            if entry.inline is None and entry.name not in index.names:
                index.find(entry.name, "is missing", SEEN, Mend.NOTHING)
            else:
                name = INVENTORY if entry.inline is not None else entry.name
                index.read(name, partial(load_piece, index.storage, entry), SEEN, Mend.SET_ASIDE)


# The log


def _check_log(index: Index, manifest: Manifest) -> None:
    for wrong in _contradictions(manifest, index.names):
        index.find(MANIFEST, wrong, LOG, Mend.REBUILD)
    newest = bounds.newest(manifest)
    if newest.ms > index.latest_ms:
        wrong = f"names a time in its {newest.field} that is yet to come, {utc(newest.ms / 1000)}"
        index.find(MANIFEST, wrong, FUTURE, Mend.REBUILD)
    segments = Segments(index.storage, read_all=True)
    for entry in manifest.segments:

        def decode(entry: SegmentEntry = entry) -> None:
            base = segments.layers([entry]).base
            if base is not None:
                index.bases.append(base)
                base.whole("thorough")
            index.segments += segments.of([entry])

        if index.read(entry.name, decode, LOG, Mend.REBUILD):
            _check_entry(index, entry, index.segments[-1])
    if not index.mends(Mend.REBUILD, Mend.UPGRADE):
        _check_missing(index, manifest)


def _contradictions(manifest: Manifest, names: list[str]) -> Iterator[str]:
    """Yield what a manifest says that cannot be so."""
    listed = [entry.name for entry in manifest.segments]
    if len(set(listed)) < len(listed):
        yield "lists a segment twice"
    ours = set(listed)
    later = [name for name in (*listed, *names) if generation_of(name) > manifest.generation + (name not in ours)]
    if later:
        yield f"is older than {later[-1]}, so it was put back from a backup"


def _check_entry(index: Index, entry: SegmentEntry, segment: Segment) -> None:
    """Compare a segment with what the manifest says of it, beyond its bytes."""
    if (len(segment), tuple(segment.maxima.items())) != (entry.length, entry.maxima):
        index.find(MANIFEST, f"says of {entry.name} what is not so", LOG, Mend.REBUILD)


def _check_missing(index: Index, manifest: Manifest) -> None:
    """Check that what is known and not held is logged."""
    missing = manifest.knowledge.missing
    keys = [entry.change.key for entry in missing]
    logged = Segment.merge(index.segments).find(keys) if keys else []
    for entry, row in zip(missing, logged, strict=True):
        if row is None or row[2] < entry.change.stamp:
            index.find(MANIFEST, f"lists {entry.change.key!r} as missing, which is not logged", LOG, Mend.REBUILD)


# The others


def _check_other(index: Index, name: str) -> None:
    storage = index.storage.name
    if name.startswith((DAMAGED_PREFIX, PROBE_PREFIX, OF_PREFIX)) or name == JOURNAL_OBJECT:
        return
    if name.startswith(SEGMENT_PREFIX):
        _check_unlisted(index, name)
    elif name.startswith(PIECE_PREFIX):
        index.find(name, "is not part of the inventory", LEFTOVER, Mend.NOTHING)
    elif name.startswith(PACK_PREFIX):
        if index.manifest is not None and name not in index.manifest.garbage:
            index.find(name, "is not part of the log", LEFTOVER, Mend.NOTHING)
    elif name.startswith(LOST_PREFIX):
        _check_loaded(index, name, lambda data: decode_lost(data, name, storage), LOST)
    elif name.startswith(UNKEPT_PREFIX):
        _check_loaded(index, name, lambda data: Segment.decode(data, name), UNKEPT)
    else:
        index.find(name, "is no object of an index", FOREIGN, Mend.NOTHING)


def _check_unlisted(index: Index, name: str) -> None:
    """Check an intent, or what no manifest lists any more."""
    manifest = index.manifest
    if manifest is None:
        # A rebuild reads all that are intact.
        _check_loaded(index, name, lambda data: decoded(index.storage, name, data), OF_LOG)
    elif name in {segment_name(manifest.generation + 1), *(intent.name for intent in manifest.intents)}:
        _check_loaded(index, name, lambda data: Segment.decode(data, name), INTENT)
    elif name not in manifest.garbage:
        index.find(name, "is not part of the log", LEFTOVER, Mend.NOTHING)


def _check_loaded(index: Index, name: str, decode: Callable[[bytes], object], means: str) -> None:
    there = index.storage.load(name)
    if there is not None:
        index.read(name, lambda: decode(there.data), means, Mend.SET_ASIDE)
