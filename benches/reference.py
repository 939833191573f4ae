"""The index format and the delta as an executable specification, in pure Python.

This module says with dicts, sorted lists and the stock msgpack library what `docs/index-format.md` says in
prose and what `kvsync._core` does in Rust. It is the oracle of `tests/properties` and the rival in the
benches, so it is written for reading first, and for the speed that plain Python has to offer second. It
shares no code with the package, and the package never imports it.

A segment is a list of rows ascending by key; a row is
`(key, origin, stamp, flags, size, digest, expires)`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import lt
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import msgpack
import xxhash
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Row: TypeAlias = tuple[str, int, int, int, int, bytes, int]
Segment: TypeAlias = list[Row]
Span: TypeAlias = tuple[int, int, int]  # (origin, first stamp, last stamp)

KIND_SEGMENT: Final = 1
KIND_MANIFEST: Final = 2
KIND_LEASE: Final = 3
KIND_INVENTORY: Final = 4
KIND_LOST: Final = 5
KIND_PIECE: Final = 6

TOMBSTONE: Final = 1
DECISION: Final = 2
INEXACT: Final = 4

MAGIC: Final = b"kvsy"
VERSION: Final = 1
COMPRESSED: Final = 1
RATIO_MAX: Final = 512
HEADER: Final = struct.Struct("<4sBBHQQ")
SUMMED: Final = struct.Struct("<4sBBHQ")  # the part of the header that the checksum covers
NO_DIGEST: Final = bytes(32)
U64_MAX: Final = 2**64 - 1
TYPECODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


class DamagedError(ValueError):
    """An object fails its checks."""


class NewerError(DamagedError):
    """An intact object was written in a later format version."""


def refuse(why: str) -> NoReturn:
    """Raise `DamagedError`, saying why."""
    raise DamagedError(why)


# ---------------------------------------------------------------------------------------------- envelope


def checksum(head: bytes, stored: bytes | memoryview) -> int:
    """Return the XXH3-64 of the first 16 bytes of an object and its stored body."""
    hasher = xxhash.xxh3_64(head)
    hasher.update(stored)
    return hasher.intdigest()


def seal(kind: int, body: bytes, *, compress: bool = False) -> bytes:
    """Put `body` into an envelope, as one zstd frame where that is wanted and within the ratio."""
    stored, flags = body, 0
    if compress:
        frame = zstandard.ZstdCompressor().compress(body)
        if len(body) <= RATIO_MAX * len(frame):
            stored, flags = frame, COMPRESSED
    head = SUMMED.pack(MAGIC, kind, VERSION, flags, len(body))
    return b"".join((head, checksum(head, stored).to_bytes(8, "little"), stored))


def unseal(kind: int, data: bytes) -> bytes:
    """Check an envelope, in the order that the format names, and return the body before compression."""
    if len(data) < HEADER.size:
        refuse("shorter than a header")
    magic, found, version, flags, length, total = HEADER.unpack_from(data)
    stored = memoryview(data)[HEADER.size :]
    if magic != MAGIC:
        refuse("not a kvsync object")
    if checksum(data[: SUMMED.size], stored) != total:
        refuse("checksum differs")
    if version > VERSION:
        raise NewerError(f"format version {version}")
    if version != VERSION:
        refuse("unknown format version")
    if found != kind:
        refuse("another kind of object")
    if flags & ~COMPRESSED:
        refuse("unknown flags")
    if flags & COMPRESSED:
        return decompress(stored, length)
    if len(stored) != length:
        refuse("length differs")
    return bytes(stored)


def decompress(frame: memoryview, length: int) -> bytes:
    """Decompress one zstd frame that has to give exactly `length` bytes."""
    if length > RATIO_MAX * len(frame):
        refuse("more than 512 times its stored length")
    try:
        if zstandard.frame_content_size(frame) not in (-1, length):
            refuse("the frame says another length")
        body = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedError(str(error)) from error
    if len(body) != length:
        refuse("length differs")
    return body


# ---------------------------------------------------------------------------------------- the msgpack map


class Pairs(list[tuple[Any, Any]]):
    """A msgpack map as the list of its entries, since their order and number matter."""


def unpack(body: bytes, name: str, fields: Mapping[str, type]) -> dict[str, Any]:
    """Return the entries of a body, which are exactly `fields`, in order, and belong to object `name`."""
    try:
        entries = msgpack.unpackb(body, object_pairs_hook=Pairs, strict_map_key=False)
    except ValueError as error:  # all of msgpack's errors are ValueErrors, and so is bad UTF-8
        raise DamagedError(str(error)) from error
    if type(entries) is not Pairs:
        refuse("not a map")
    if [key for key, _ in entries] != list(fields):
        refuse("other keys than expected")
    values = dict(entries)
    for key, kind in fields.items():
        if type(values[key]) is not kind or (kind is int and values[key] < 0):
            refuse(f"{key} has the wrong type")
    if values["name"] != name:
        refuse("the object has another name")
    return values


def uints(values: list[Any]) -> list[int]:
    """Return `values`, which are all unsigned integers."""
    if not all(type(value) is int and value >= 0 for value in values):
        refuse("not an array of uint")
    return values


# ------------------------------------------------------------------------------------------------ columns


def width_of(greatest: int) -> int:
    """Return the least of 1, 2, 4 and 8 bytes that holds `greatest`."""
    return 1 if greatest < 1 << 8 else 2 if greatest < 1 << 16 else 4 if greatest < 1 << 32 else 8


def little_endian(values: array[int]) -> array[int]:
    """Swap the bytes of `values` where this machine is big-endian."""
    if sys.byteorder == "big":
        values.byteswap()
    return values


def pack_numbers(values: Sequence[int]) -> bytes:
    """Return a column of numbers, all in the least width that holds the greatest."""
    width = width_of(max(values, default=0))
    return little_endian(array(TYPECODES[width], values)).tobytes()


def read_numbers(column: bytes, count: int) -> array[int]:
    """Return the `count` numbers of a column, which has the least width that holds them."""
    if count == 0:
        return array("B") if not column else refuse("a column without entries is not empty")
    width, rest = divmod(len(column), count)
    if rest or width not in TYPECODES:
        refuse("no such width")
    values = little_endian(array(TYPECODES[width], column))
    if width_of(max(values)) != width:
        refuse("not the least width")
    return values


def split(sizes: array[int], arena: bytes) -> list[bytes]:
    """Cut an arena into the pieces whose sizes are given and that fill it."""
    ends = list(accumulate(sizes, initial=0))
    if ends[-1] != len(arena):
        refuse("sizes do not add up")
    return [arena[start:end] for start, end in zip(ends, islice(ends, 1, None), strict=False)]


def read_keys(sizes: array[int], arena: bytes) -> list[str]:
    """Return the keys of an arena: each valid UTF-8 on its own, and strictly ascending."""
    try:
        keys = [key.decode() for key in split(sizes, arena)]
    except UnicodeDecodeError as error:
        raise DamagedError(str(error)) from error
    if not ascending(keys):
        refuse("keys are not strictly ascending")
    return keys


def ascending(values: Sequence[Any]) -> bool:
    """Tell whether every value is greater than the one before; code point order is UTF-8 order."""
    return all(map(lt, values, islice(values, 1, None)))


def read_digests(column: bytes, count: int) -> list[bytes]:
    """Return the 32-byte pieces of a column of digests."""
    if len(column) != 32 * count:
        refuse("digest column has another length")
    return [column[at : at + 32] for at in range(0, len(column), 32)]


# ------------------------------------------------------------------------------------------------ segment

SEGMENT_FIELDS: Final = {
    "name": str,
    "count": int,
    "origins": list,
    "max": list,
    "stamp_base": int,
    "stamp": bytes,
    "origin": bytes,
    "flags": bytes,
    "size": bytes,
    "expires": bytes,
    "digest": bytes,
    "key_size": bytes,
    "key": bytes,
    "note": bytes,
}


def encode_segment(rows: Sequence[Row], name: str, note: bytes = b"", *, compress: bool = False) -> bytes:
    """Return the one encoding of a set of changes under a name, with a note; `rows` ascend by key."""
    if not ascending([row[0] for row in rows]):
        raise ValueError("rows have to ascend by key")
    keys = [row[0].encode() for row in rows]
    greatest = maxima(rows)
    place = {origin: at for at, origin in enumerate(greatest)}
    base = min((row[2] for row in rows), default=0)
    body = {
        "name": name,
        "count": len(rows),
        "origins": list(greatest),
        "max": list(greatest.values()),
        "stamp_base": base,
        "stamp": pack_numbers([row[2] - base for row in rows]),
        "origin": pack_numbers([place[row[1]] for row in rows]),
        "flags": bytes(row[3] for row in rows),
        "size": pack_numbers([row[4] for row in rows]),
        "expires": pack_numbers([row[6] for row in rows]) if any(row[6] for row in rows) else b"",
        "digest": b"".join(row[5] for row in rows),
        "key_size": pack_numbers([len(key) for key in keys]),
        "key": b"".join(keys),
        "note": note,
    }
    return seal(KIND_SEGMENT, msgpack.packb(body), compress=compress)


def decode_segment(data: bytes, name: str) -> Segment:
    """Return the rows of a segment after every check that the format asks for."""
    return decode_noted(data, name)[0]


def decode_noted(data: bytes, name: str) -> tuple[Segment, bytes]:
    """Return the rows of a segment, and what it notes beside them."""
    body = unpack(unseal(KIND_SEGMENT, data), name, SEGMENT_FIELDS)
    count, flags = body["count"], body["flags"]
    if len(flags) != count:
        refuse("flags column has another length")
    origins = read_origins(body)
    stamps = read_stamps(body)
    sizes = read_numbers(body["size"], count)
    digests = read_digests(body["digest"], count)
    keys = read_keys(read_numbers(body["key_size"], count), body["key"])
    expires = read_expires(body["expires"], count)
    check_flags(flags, sizes, expires, digests)
    rows = list(zip(keys, origins, stamps, flags, sizes, digests, expires, strict=True))
    greatest = maxima(rows)
    if list(greatest) != body["origins"] or list(greatest.values()) != body["max"]:
        refuse("origins and their greatest stamps are not exact")
    return rows, body["note"]


def read_origins(body: Mapping[str, Any]) -> list[int]:
    """Return the origin of each row; `decode_segment` compares the dictionary and its maxima afterwards."""
    origins, places = uints(body["origins"]), read_numbers(body["origin"], body["count"])
    uints(body["max"])
    if places and max(places) >= len(origins):
        refuse("no such origin")
    return list(map(origins.__getitem__, places))


def read_stamps(body: Mapping[str, Any]) -> list[int]:
    """Return the stamp of each row, the smallest of which is the base."""
    base, offsets = body["stamp_base"], read_numbers(body["stamp"], body["count"])
    if base + max(offsets, default=0) > U64_MAX:
        refuse("a stamp exceeds 64 bits")
    if min(offsets, default=base) != 0:
        refuse("stamp_base is not the smallest stamp")
    return [base + offset for offset in offsets]


def read_expires(column: bytes, count: int) -> array[int] | bytes:
    """Return when the value of each row goes by itself: never, where the column is empty."""
    if not column:
        return bytes(count)
    expires = read_numbers(column, count)
    return expires if any(expires) else refuse("expiries of values that never expire")


def check_flags(flags: bytes, sizes: array[int], expires: array[int] | bytes, digests: list[bytes]) -> None:
    """Check that flags are known and that a tombstone has no size, expiry or digest."""
    if max(flags, default=0) > TOMBSTONE | DECISION | INEXACT:
        refuse("unknown flags")
    for at, flag in enumerate(flags):
        if flag & TOMBSTONE and (sizes[at] or expires[at] or digests[at] != NO_DIGEST):
            refuse("a tombstone with a value")


def maxima(rows: Iterable[Row]) -> dict[int, int]:
    """Return the greatest stamp of each origin, ascending by origin."""
    greatest: dict[int, int] = {}
    for _, origin, stamp, *_ in rows:
        if stamp >= greatest.get(origin, 0):
            greatest[origin] = stamp
    return dict(sorted(greatest.items()))


# -------------------------------------------------------------------------------------------------- cover


@dataclass(frozen=True)
class Cover:
    """Which changes a replica has logged, or holds one that beats them.

    All up to `vector[origin]`, and beyond it the ranges in `exceptions`: spans of stamps, ascending, not touching. A
    span that begins right behind the vector stays a span.
    """

    vector: dict[int, int] = field(default_factory=dict)
    exceptions: tuple[Span, ...] = ()

    @classmethod
    def of(cls, vector: Mapping[int, int], spans: Iterable[Span]) -> Cover:
        """Return the cover of a vector and any spans, in its one normal form."""
        joined: list[Span] = []
        for origin, first, last in sorted(spans):
            start = max(first, vector[origin] + 1) if origin in vector else first
            if start > last:
                continue
            if joined and joined[-1][0] == origin and start <= joined[-1][2] + 1:
                joined[-1] = (origin, joined[-1][1], max(last, joined[-1][2]))
            else:
                joined.append((origin, start, last))
        return cls(dict(sorted(vector.items())), tuple(joined))

    def covers(self, origin: int, stamp: int) -> bool:
        """Tell whether one change is covered."""
        if origin in self.vector and stamp <= self.vector[origin]:
            return True
        at = bisect_right(self.exceptions, (origin, stamp, U64_MAX)) - 1
        return at >= 0 and self.exceptions[at][0] == origin and stamp <= self.exceptions[at][2]

    def uncovered(self, rows: Iterable[Row]) -> Segment:
        """Return the rows that this cover does not cover."""
        level, exceptions = self.vector, self.exceptions
        beyond = [row for row in rows if row[2] > level.get(row[1], -1)]
        return [row for row in beyond if not self.covers(row[1], row[2])] if exceptions else beyond


# ------------------------------------------------------------------------------------------ merge, delta


def order(row: Row) -> tuple[int, int, bytes, int, int, int, int]:
    """Return the total order of changes to one key: stamp, put before delete, digest, origin.

    Flags, size and expiry come last. They tell apart what only a faulty replica makes: two changes of one name.
    """
    return (row[2], row[3] & TOMBSTONE, row[5], row[1], row[3], row[4], row[6])


def effect(row: Row) -> tuple[int, bytes]:
    """Return what a change leaves behind, for however long: whether a value is there, and which."""
    return (row[3] & TOMBSTONE, row[5])


def merge(segments: Sequence[Segment]) -> Segment:
    """Return the newest change of each key, ascending by key."""
    if len(segments) == 1:
        return segments[0]
    newest: dict[str, Row] = {}
    for segment in segments:
        for row in segment:
            other = newest.setdefault(row[0], row)
            if other is not row and order(row) > order(other):
                newest[row[0]] = row
    return sorted(newest.values())


@dataclass
class Delta:
    """What two replicas owe each other.

    `to_a` and `to_b` are changes to apply and log, `log_a` and `log_b` changes to log only, since the value
    is there already and goes at the same time; `conflicts` pairs both sides' changes of a key, a's first.
    """

    to_a: Segment = field(default_factory=list)
    to_b: Segment = field(default_factory=list)
    log_a: Segment = field(default_factory=list)
    log_b: Segment = field(default_factory=list)
    conflicts: list[tuple[Row, Row]] = field(default_factory=list)


def renamed(rows: Segment, spans: Sequence[tuple[int, int, int, int]]) -> Segment:
    """Return the rows with another origin for those in a span, (origin, first stamp, last stamp, other origin)."""

    def name(origin: int, stamp: int) -> int:
        held = (other for each, first, last, other in spans if each == origin and first <= stamp <= last)
        return next(held, origin)

    return [(row[0], name(row[1], row[2]), *row[2:]) for row in rows]


def passing(row: Row) -> bool:
    """Tell whether a change leaves nothing some day: a delete, or a value that expires."""
    return bool(row[3] & TOMBSTONE or row[6])


def collected(
    rows: Segment, limits: Mapping[int, int], expired_ms: int, keep: Sequence[str]
) -> tuple[Segment, dict[int, int]]:
    """Return the rows without deletes and expired values up to the limits, and the greatest stamp of what went."""
    gone = [
        row
        for row in rows
        if passing(row) and row[6] <= expired_ms and row[2] <= limits.get(row[1], -1) and row[0] not in keep
    ]
    return [row for row in rows if row not in gone], maxima(gone)


def delta(a: Sequence[Segment], b: Sequence[Segment], cover_a: Cover, cover_b: Cover) -> Delta:
    """Return what each side misses; the newest change of a key is found before coverage is asked."""
    from_a = {row[0]: row for row in cover_b.uncovered(merge(a))}
    from_b = {row[0]: row for row in cover_a.uncovered(merge(b))}
    found = Delta(
        to_a=[row for key, row in from_b.items() if key not in from_a],
        to_b=[row for key, row in from_a.items() if key not in from_b],
    )
    for key, row in from_a.items():
        if key in from_b:
            settle(found, row, from_b[key])
    for side in (found.to_a, found.to_b):  # pairs came after the others, and segments ascend by key
        side.sort()
    return found


def settle(found: Delta, a: Row, b: Row) -> None:
    """Decide what becomes of a key that both sides changed without knowing of each other."""
    if a == b:
        return
    if effect(a) != effect(b) or a[6] != b[6]:
        found.conflicts.append((a, b))
    elif order(a) > order(b):
        found.log_b.append(a)
    else:
        found.log_a.append(b)


def newest_digest(segments: Sequence[Segment]) -> bytes:
    """Return the digest of the values that the newest changes leave for good, as the manifest keeps it."""
    total = 0
    for key, _, stamp, flags, _, digest, expires in merge(segments):
        if flags & TOMBSTONE or expires:
            continue
        raw = key.encode()
        total += xxhash.xxh3_128_intdigest(struct.pack("<Q", len(raw)) + raw + struct.pack("<Q", stamp) + digest)
    return (total % 2**128).to_bytes(16, "little")


# ------------------------------------------------------------------------------------------------- piece

PIECE_FIELDS: Final = {
    "name": str,
    "count": int,
    "state": bytes,
    "digest": bytes,
    "token_size": bytes,
    "token": bytes,
    "key_size": bytes,
    "key": bytes,
}
HAS_TOKEN: Final = 0
BY_DIGEST: Final = 1
GONE: Final = 2


@dataclass
class Piece:
    """A part of an inventory: each key's version token and digest, ascending by key; no digest where it is gone."""

    seen: dict[str, tuple[bytes, bytes | None]]

    @classmethod
    def decode(cls, data: bytes, name: str) -> Piece:
        """Return a piece after every check that the format asks for."""
        body = unpack(unseal(KIND_PIECE, data), name, PIECE_FIELDS)
        count = body["count"]
        if len(body["state"]) != count:
            refuse("there is a state for each key")
        digests = read_digests(body["digest"], count)
        tokens = split(read_numbers(body["token_size"], count), body["token"])
        keys = read_keys(read_numbers(body["key_size"], count), body["key"])
        return cls(dict(zip(keys, map(read_entry, body["state"], tokens, digests), strict=True)))

    def encode(self, name: str, *, compress: bool = False) -> bytes:
        """Return the one encoding of this piece."""
        keys = [key.encode() for key in self.seen]
        states = [state_of(token, digest) for token, digest in self.seen.values()]
        kept = [
            token if state == HAS_TOKEN else b"" for state, (token, _) in zip(states, self.seen.values(), strict=True)
        ]
        body = {
            "name": name,
            "count": len(keys),
            "state": bytes(states),
            "digest": b"".join(digest or NO_DIGEST for _, digest in self.seen.values()),
            "token_size": pack_numbers([len(token) for token in kept]),
            "token": b"".join(kept),
            "key_size": pack_numbers([len(key) for key in keys]),
            "key": b"".join(keys),
        }
        return seal(KIND_PIECE, msgpack.packb(body), compress=compress)


def state_of(token: bytes, digest: bytes | None) -> int:
    """Return how an entry is stored."""
    if digest is None:
        return GONE
    return BY_DIGEST if token == digest else HAS_TOKEN


def read_entry(state: int, token: bytes, digest: bytes) -> tuple[bytes, bytes | None]:
    """Return token and digest of an entry, which have to be what its state allows."""
    if state == HAS_TOKEN and token != digest:
        return token, digest
    if state == BY_DIGEST and not token:
        return digest, digest
    if state == GONE and not token and digest == NO_DIGEST:
        return b"", None
    return refuse("an entry does not fit its state")
