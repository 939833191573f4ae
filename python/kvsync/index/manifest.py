"""The manifest: the small mutable record of a replica (docs/index-format.md, kind 2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from kvsync.errors import UsageError
from kvsync.index.objects import MANIFEST, field_error, is_uint, pack, unpack
from kvsync.native import KIND_MANIFEST, Cover, Segment, checksum
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.environment import Environment
    from kvsync.errors import IndexDamagedError
    from kvsync.index.lineage import Points

__all__ = ["Manifest", "Missing", "RememberedIntent", "SegmentEntry"]

FIELDS = (
    MANIFEST,
    "replica",
    "generation",
    "nonce",
    "clock",
    "vector",
    "ahead",
    "points",
    "segments",
    "peers",
    "missing",
    "intents",
    "garbage",
    "digest",
    "lease",
)


# A run makes tens of these two kinds of record: named tuples take a quarter of a frozen dataclass's time.


class SegmentEntry(NamedTuple):
    """One listed segment: where it is, what it covers, its changes and bytes, how to recognise it.

    As it stands in a manifest: `maxima` are (origin, greatest stamp), ascending.
    """

    name: str
    maxima: tuple[tuple[int, int], ...]
    length: int
    size: int
    checksum: int
    inline: bytes | None

    @classmethod
    def of(cls, name: str, maxima: Mapping[int, int], count: int, data: bytes, *, inline: bool) -> SegmentEntry:
        """Describe the encoded segment `data`."""
        return cls(name, tuple(_pairs(maxima)), count, len(data), checksum(data), data if inline else None)


@dataclass(frozen=True, slots=True)
class Missing:
    """A change that is known here and whose value is not held.

    Attributes:
        change: the newest that this replica knows of from others.
        reason: why its value is not held.
        held: BLAKE3 of the value that is there instead, empty where there is none.
        overtaken: the key holds something else by now that was made without knowing of this change, so the two have
            yet to meet as a conflict. Whoever takes over that other change takes this over, too.
    """

    change: Change
    reason: str
    held: bytes = b""
    overtaken: bool = False


@dataclass(frozen=True, slots=True)
class RememberedIntent:
    """What a holder that lost its lease was writing; its last write may land until `until_ms` (wall clock)."""

    name: str
    until_ms: int


class Manifest(NamedTuple):
    """A replica's state: its id, what it has seen, where its log is.

    Attributes:
        replica: random 64-bit id.
        generation: counts writes of this manifest; 0 is not written yet.
        nonce: 16 bytes, fresh in each write: the fencing token.
        clock: greatest stamp seen.
        cover: what is logged here, or beaten by what is logged: version vector and what is held ahead of it.
        points: of its own history (`kvsync.index.lineage`).
        lease: the version of the lease object that this write gave back, being its holder's last; empty where none.
        segments: oldest to newest.
        peers: {replica: vector} that each known peer has acknowledged.
        missing: by key.
        intents: segments of holders that lost their lease.
        garbage: objects to remove.
        digest: of the newest changes, 16 bytes, or None where not known.
    """

    replica: int
    generation: int
    nonce: bytes
    clock: int
    cover: Cover
    segments: tuple[SegmentEntry, ...] = ()
    peers: Mapping[int, Mapping[int, int]] | None = None
    missing: tuple[Missing, ...] = ()
    intents: tuple[RememberedIntent, ...] = ()
    garbage: tuple[str, ...] = ()
    digest: bytes | None = None
    points: Points = ()
    lease: bytes = b""

    @classmethod
    def fresh(cls, environment: Environment) -> Manifest:
        """Return the manifest of a replica that nobody has met yet."""
        return cls(environment.replica_id(), 0, b"", 0, Cover())

    @property
    def lacking(self) -> list[Missing]:
        """The newest changes whose value is not held; one a key at most."""
        return [lack for lack in self.missing if not lack.overtaken]

    def has_met(self, change: Change) -> bool:
        """Whether this replica knows of a change, and held its value or met it as a conflict, or so did who beat it."""
        dot = change.dot
        return self.cover.covers(*dot) and all(lack.change.dot != dot for lack in self.missing)

    def encode(self) -> bytes:
        """Return the sealed object."""
        return pack(
            KIND_MANIFEST,
            {
                "name": MANIFEST,
                "replica": self.replica,
                "generation": self.generation,
                "nonce": self.nonce,
                "clock": self.clock,
                "vector": _pairs(self.cover.vector),
                "ahead": [list(span) for span in self.cover.ahead],
                "points": self.points,
                "segments": self.segments,
                "peers": [[replica, _pairs(vector)] for replica, vector in sorted((self.peers or {}).items())],
                "missing": [[*lack.change, lack.reason, lack.held, lack.overtaken] for lack in self.missing],
                "intents": [[intent.name, intent.until_ms] for intent in self.intents],
                "garbage": list(self.garbage),
                "digest": self.digest,
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
        return _Reader(unpack(KIND_MANIFEST, data, FIELDS, storage), storage).manifest()


def _pairs(vector: Mapping[int, int]) -> list[tuple[int, int]]:
    return sorted(vector.items())


class _Reader:
    """Turns the fields of a manifest into values, trusting none of them."""

    def __init__(self, fields: dict[str, object], storage: str) -> None:
        self.fields = fields
        self.storage = storage

    def manifest(self) -> Manifest:
        replica, generation = self.uint("replica"), self.uint("generation")
        nonce, digest, lease = (self.fields[name] for name in ("nonce", "digest", "lease"))
        if not replica or not generation:
            raise self.error("replica or generation")
        if type(nonce) is not bytes or len(nonce) != 16:  # noqa: PLR2004 - the format says 16
            raise self.error("nonce")
        if digest is not None and (type(digest) is not bytes or len(digest) != 16):  # noqa: PLR2004
            raise self.error("digest")
        if type(lease) is not bytes:
            raise self.error("lease")
        peers = self.rows("peers", 2)
        return Manifest(
            replica=replica,
            generation=generation,
            nonce=nonce,
            clock=self.uint("clock"),
            cover=self.cover(),
            segments=tuple(self.segment(row) for row in self.rows("segments", 6)),
            peers={self.number(row[0], "peers"): self.vector(row[1], "peers") for row in peers},
            missing=tuple(self.lack(row) for row in self.rows("missing", 10)),
            intents=tuple(self.intent(row) for row in self.rows("intents", 2)),
            garbage=self.names("garbage"),
            digest=digest,
            points=self.points(),
            lease=lease,
        )

    def error(self, field: str) -> IndexDamagedError:
        return field_error(self.storage, MANIFEST, field)

    def uint(self, field: str) -> int:
        return self.number(self.fields[field], field)

    def number(self, value: object, field: str) -> int:
        if not is_uint(value):
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

    def cover(self) -> Cover:
        spans = self.rows("ahead", 3)
        ahead = [
            (self.number(origin, "ahead"), self.number(first, "ahead"), self.number(last, "ahead"))
            for origin, first, last in spans
        ]
        if any(first > last for _, first, last in ahead):
            raise self.error("ahead")
        cover = Cover(self.vector(self.fields["vector"], "vector"), ahead)
        if cover.ahead != ahead:
            raise self.error("ahead")
        return cover

    def points(self) -> Points:
        points = [
            (self.number(number, "points"), self.number(stamp, "points")) for number, stamp in self.rows("points", 2)
        ]
        before = (0, 0)
        for point in points:
            if point[0] <= before[0] or point[1] <= before[1]:
                raise self.error("points")
            before = point
        return tuple(points)

    def segment(self, row: list[object]) -> SegmentEntry:
        name, maxima, length, size, check, inline = row
        if type(name) is not str or not (is_uint(length) and is_uint(size) and is_uint(check)):
            raise self.error("segments")
        if inline is not None and (type(inline) is not bytes or len(inline) != size or checksum(inline) != check):
            raise self.error("segments")
        return SegmentEntry(name, tuple(self.vector(maxima, "segments").items()), length, size, check, inline)

    def intent(self, row: list[object]) -> RememberedIntent:
        name, until_ms = row
        if type(name) is not str:
            raise self.error("intents")
        return RememberedIntent(name, self.number(until_ms, "intents"))

    def lack(self, row: list[object]) -> Missing:
        key, origin, stamp, flags, size, digest, expires, reason, held, overtaken = row
        if type(held) is not bytes or len(held) not in {0, 32} or type(overtaken) is not bool:
            raise self.error("missing")
        if type(key) is not str or type(digest) is not bytes or len(digest) != 32 or type(reason) is not str:  # noqa: PLR2004
            raise self.error("missing")
        number = partial(self.number, field="missing")
        change = Change(key, number(origin), number(stamp), number(flags), number(size), digest, number(expires))
        try:
            Segment.from_rows([change])
        except UsageError:
            raise self.error("missing") from None
        return Missing(change, reason, held, overtaken)
