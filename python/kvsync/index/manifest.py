"""The manifest: the small mutable record of a replica (docs/index-format.md, kind 2)."""

from __future__ import annotations

from functools import partial
from itertools import chain, pairwise
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import UsageError
from kvsync.index import bounds
from kvsync.index.histories import pack_entries, pack_history, unpack_entries, unpack_history
from kvsync.index.objects import MANIFEST, field_error, is_uint, pack, unpack
from kvsync.native import KIND_MANIFEST, Segment, checksum
from kvsync.replica.knowledge import Knowledge, Missing
from kvsync.replica.peers import FORGOTTEN, REPLACED, STRUCK, Peer
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.errors import IndexDamagedError
    from kvsync.native import Cover
    from kvsync.replica.history import History

__all__ = ["Manifest", "RememberedIntent", "SegmentEntry"]

FIELDS = (
    MANIFEST,
    "replica",
    "place",
    "generation",
    "nonce",
    "clock",
    "chains",
    "exceptions",
    "missing",
    "unreconciled",
    "segments",
    "peers",
    "gone",
    "collected",
    "collected_ms",
    "intents",
    "garbage",
    "digest",
    "inventory",
    "lease",
)

NONCE_BYTES = 16
DIGEST_BYTES = 32


# A run makes tens of these records: named tuples take a quarter of a frozen dataclass's time.


class SegmentEntry(NamedTuple):
    """One listed segment: its name, what it covers, its size, and how to recognise it.

    Attributes:
        name: of the object, below `.kvsync/`.
        maxima: (origin, greatest stamp), ascending by origin.
        length: number of changes.
        passing: (origin, least stamp) of those that leave nothing some day: deletes, and values that expire.
        passing_length: how many these are.
        size: bytes of the encoded segment.
        checksum: of the encoded segment.
        inline: the encoded segment, where the manifest holds it; else None.
    """

    name: str
    maxima: tuple[tuple[int, int], ...]
    length: int
    passing: tuple[tuple[int, int], ...]
    passing_length: int
    size: int
    checksum: int
    inline: bytes | None

    @classmethod
    def of(cls, name: str, segment: Segment, data: bytes, *, inline: bool) -> SegmentEntry:
        """Describe a segment that was encoded as `data`."""
        return cls(
            name,
            tuple(_pairs(segment.maxima)),
            len(segment),
            tuple(_pairs(segment.passing)),
            segment.tombstones + segment.expiring,
            len(data),
            checksum(data),
            data if inline else None,
        )


class RememberedIntent(NamedTuple):
    """The intent of a holder that lost its lease: its last write may land until `until_ms` (wall clock)."""

    name: str
    until_ms: int


class Manifest(NamedTuple):
    """The state of a replica: its id, what it knows, where its log is.

    Attributes:
        replica: random 64-bit id.
        place: random 64 bits that stay when the id changes; 0 where none were drawn.
        generation: counts the writes of this manifest; 0 stands for one that was never written.
        nonce: 16 bytes, fresh in each write: the fencing token.
        clock: greatest stamp seen.
        knowledge: what is logged here, or beaten by what is logged, and what of that is not held.
        segments: oldest to newest.
        peers: {replica: what it has acknowledged} of each known one, also of those that only peers have met.
        gone: {replica: why} of ids that no storage goes by any more (`kvsync.replica.peers`).
        collected: {origin: greatest stamp} of the changes that left nothing, and are no longer logged here.
        collected_ms: when a large log was last searched for such changes, in wall-clock milliseconds.
        intents: of holders that lost their lease.
        garbage: names of objects to remove.
        digest: of the newest changes, 16 bytes, or None where it is not known.
        inventory: nonce of the inventory that is in step with this log; empty where none is.
        lease: version of the lease object that this write released, being its holder's last; empty where none.
    """

    replica: int
    generation: int
    nonce: bytes
    clock: int
    knowledge: Knowledge
    segments: tuple[SegmentEntry, ...] = ()
    peers: Mapping[int, Peer] = MappingProxyType({})
    gone: Mapping[int, int] = MappingProxyType({})
    collected: Mapping[int, int] = MappingProxyType({})
    collected_ms: int = 0
    intents: tuple[RememberedIntent, ...] = ()
    garbage: tuple[str, ...] = ()
    digest: bytes | None = None
    inventory: bytes = b""
    lease: bytes = b""
    place: int = 0

    @classmethod
    def fresh(cls, replica: int, place: int = 0) -> Manifest:
        """Return the manifest of a replica that nobody has met yet."""
        return cls(replica, 0, b"", 0, Knowledge(), place=place)

    @property
    def cover(self) -> Cover:
        """Version vector with its exceptions."""
        return self.knowledge.cover

    @property
    def history(self) -> History:
        """How far every origin's history is known, and what proves it."""
        return self.knowledge.history

    @property
    def listed_origins(self) -> set[int]:
        """The origins of the changes in all segments, also of those that are beaten by now."""
        return {*map(itemgetter(0), chain.from_iterable([entry.maxima for entry in self.segments]))}

    @property
    def named_origins(self) -> set[int]:
        """The origins of the changes that this manifest itself names."""
        missing = {entry.change.origin for entry in self.knowledge.missing}
        unreconciled = {change.origin for change in self.knowledge.unreconciled}
        return missing | unreconciled | {span.origin for span in self.history.exceptions}

    def without_past_intents(self, now_ms: int) -> Manifest:
        """Return the manifest with the intents that nobody needs any more as garbage."""
        past = tuple(intent for intent in self.intents if intent.until_ms <= now_ms)
        if not past:
            return self
        return self._replace(
            intents=tuple(intent for intent in self.intents if intent.until_ms > now_ms),
            garbage=(*self.garbage, *(intent.name for intent in past)),
        )

    def encode(self) -> bytes:
        """Return the sealed object."""
        chains, exceptions = pack_history(self.history)
        known = self.history.chains
        return pack(
            KIND_MANIFEST,
            {
                "name": MANIFEST,
                "replica": self.replica,
                "place": self.place,
                "generation": self.generation,
                "nonce": self.nonce,
                "clock": self.clock,
                "chains": chains,
                "exceptions": exceptions,
                "missing": [
                    [*entry.change, bounds.shortened(entry.reason), entry.held] for entry in self.knowledge.missing
                ],
                "unreconciled": self.knowledge.unreconciled,
                "segments": self.segments,
                "peers": [
                    [
                        replica,
                        bounds.shortened(peer.name),
                        peer.seen,
                        pack_entries(peer.entries, known),
                        pack_entries(peer.offered, known),
                        peer.place,
                    ]
                    for replica, peer in sorted(self.peers.items())
                ],
                "gone": _pairs(self.gone),
                "collected": _pairs(self.collected),
                "collected_ms": self.collected_ms,
                "intents": self.intents,
                "garbage": self.garbage,
                "digest": self.digest,
                "inventory": self.inventory,
                "lease": self.lease,
            },
        )

    @classmethod
    def decode(cls, data: bytes, storage: str) -> Manifest:
        """Read a sealed manifest.

        Raises:
            IndexDamagedError: it fails its checks.
            FormatError: a newer kvsync wrote it.
        """
        bounds.check_bytes(data, storage)
        fields = unpack(KIND_MANIFEST, data, FIELDS, storage)
        bounds.check_lengths(fields, storage)
        manifest = _Reader(fields, storage).manifest()
        bounds.check(manifest, storage)
        return manifest


def _pairs(vector: Mapping[int, int]) -> list[tuple[int, int]]:
    return sorted(vector.items())


class _Reader:
    """Turns the fields of a manifest into values, trusting none of them."""

    def __init__(self, fields: dict[str, object], storage: str) -> None:
        self.fields = fields
        self.storage = storage

    def manifest(self) -> Manifest:
        knowledge = self.knowledge()
        return Manifest(
            replica=self.uint("replica"),
            place=self.uint("place"),
            generation=self.uint("generation"),
            nonce=self.fixed("nonce", NONCE_BYTES),
            clock=self.uint("clock"),
            knowledge=knowledge,
            segments=tuple(self.segment(row) for row in self.rows("segments", 8)),
            peers=self.peers(knowledge.history),
            gone=self.gone(),
            collected=self.vector(self.fields["collected"], "collected"),
            collected_ms=self.uint("collected_ms"),
            intents=tuple(self.intent(row) for row in self.rows("intents", 2)),
            garbage=self.names("garbage"),
            digest=None if self.fields["digest"] is None else self.fixed("digest", NONCE_BYTES),
            inventory=self.fixed("inventory", NONCE_BYTES, 0),
            lease=self.binary("lease"),
        )

    def error(self, field: str) -> IndexDamagedError:
        return field_error(self.storage, MANIFEST, field)

    def uint(self, field: str) -> int:
        return self.number(self.fields[field], field)

    def number(self, value: object, field: str) -> int:
        if not is_uint(value):
            raise self.error(field)
        return value

    def binary(self, field: str) -> bytes:
        value = self.fields[field]
        if type(value) is not bytes:
            raise self.error(field)
        return value

    def fixed(self, field: str, *lengths: int) -> bytes:
        value = self.binary(field)
        if len(value) not in lengths:
            raise self.error(field)
        return value

    def rows(self, field: str, width: int) -> list[list[object]]:
        rows = self.fields[field]
        if type(rows) is not list or any(type(row) is not list or len(row) != width for row in rows):
            raise self.error(field)
        return rows

    def names(self, field: str) -> tuple[str, ...]:
        names = self.fields[field]
        if type(names) is not list or any(type(name) is not str for name in names):
            raise self.error(field)
        return tuple(names)

    def vector(self, rows: object, field: str) -> dict[int, int]:
        if type(rows) is not list:
            raise self.error(field)
        vector: dict[int, int] = {}
        last = -1
        for row in rows:
            if type(row) is not list or len(row) != 2:  # noqa: PLR2004
                raise self.error(field)
            origin, stamp = row
            if not is_uint(origin) or not is_uint(stamp) or origin <= last:
                raise self.error(field)
            vector[origin] = stamp
            last = origin
        return vector

    def knowledge(self) -> Knowledge:
        missing = tuple(self.missing(row) for row in self.rows("missing", 9))
        keys = [entry.change.key for entry in missing]
        if any(key >= following for key, following in pairwise(keys)):
            raise self.error("missing")
        unreconciled = tuple(self.change(row, "unreconciled") for row in self.rows("unreconciled", 7))
        names = [(change.key, change.dot) for change in unreconciled]
        if any(name >= following for name, following in pairwise(names)):
            raise self.error("unreconciled")
        return Knowledge(self.history(), missing, unreconciled)

    def history(self) -> History:
        history = unpack_history(self.fields["chains"], self.fields["exceptions"])
        if history is None:
            is_known = unpack_history(self.fields["chains"], []) is not None
            raise self.error("exceptions" if is_known else "chains")
        return history

    def peers(self, history: History) -> dict[int, Peer]:
        peers: dict[int, Peer] = {}
        last = 0
        for replica, name, seen, known, told, place in self.rows("peers", 6):
            entries, offered = (unpack_entries(column, history.chains) for column in (known, told))
            number = self.number(replica, "peers")
            if number <= last or type(name) is not str or entries is None or offered is None:
                raise self.error("peers")
            peers[number] = Peer(name, self.number(seen, "peers"), entries, offered, self.number(place, "peers"))
            last = number
        return peers

    def gone(self) -> dict[int, int]:
        gone = self.vector(self.fields["gone"], "gone")
        if not set(gone.values()) <= {REPLACED, FORGOTTEN, STRUCK}:
            raise self.error("gone")
        return gone

    def segment(self, row: list[object]) -> SegmentEntry:
        name, maxima, length, passing, passing_length, size, check, inline = row
        if type(name) is not str:
            raise self.error("segments")
        if inline is not None and (type(inline) is not bytes or len(inline) != size or checksum(inline) != check):
            raise self.error("segments")
        greatest, least = (tuple(self.vector(pairs, "segments").items()) for pairs in (maxima, passing))
        return SegmentEntry(
            name,
            greatest,
            self.number(length, "segments"),
            least,
            self.number(passing_length, "segments"),
            self.number(size, "segments"),
            self.number(check, "segments"),
            inline,
        )

    def intent(self, row: list[object]) -> RememberedIntent:
        name, until_ms = row
        if type(name) is not str:
            raise self.error("intents")
        return RememberedIntent(name, self.number(until_ms, "intents"))

    def missing(self, row: list[object]) -> Missing:
        *change, reason, held = row
        if type(reason) is not str or type(held) is not bytes or len(held) not in {0, DIGEST_BYTES}:
            raise self.error("missing")
        return Missing(self.change(change, "missing"), reason, held)

    def change(self, row: list[object], field: str) -> Change:
        key, origin, stamp, flags, size, digest, expires = row
        if type(key) is not str or type(digest) is not bytes or len(digest) != DIGEST_BYTES:
            raise self.error(field)
        number = partial(self.number, field=field)
        change = Change(key, number(origin), number(stamp), number(flags), number(size), digest, number(expires))
        try:
            Segment.from_rows([change])
        except (UsageError, OverflowError):
            raise self.error(field) from None
        return change
