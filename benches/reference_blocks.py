"""Segments in blocks as an executable specification, in pure Python: what `docs/index-format.md` says of them.

It belongs to `reference`, whose segments it cuts. The delta of two logs in blocks is `reference.delta` of their rows,
and the merge of some is `reference.merge`, cut anew: a reader that leaves blocks out has to come to the same.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Final

import msgpack
import xxhash

from reference import (
    TOMBSTONE,
    U64_MAX,
    ascending,
    check_flags,
    maxima,
    pack_numbers,
    read_digests,
    read_expires,
    read_keys,
    read_numbers,
    refuse,
    seal,
    unpack,
    unseal,
    width_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reference import Row, Segment

KIND_DIRECTORY: Final = 7
TARGET: Final = 19_456
CHANGE_WEIGHT: Final = 54
PAGE_TARGET: Final = 32
BLOCKS_MAX: Final = 1024
HEAD: Final = struct.Struct("<II8s")
PART_BYTES_MAX: Final = 1 << 26


# ---------------------------------------------------------------------------------------------------- cuts


def cuts(keys: Sequence[bytes], weights: Iterable[int], target: int, seed: int) -> list[int]:
    """Return the positions of the keys that begin a block, the first one included."""
    found, total = [], 0
    for place, (key, weight) in enumerate(zip(keys, weights, strict=True)):
        if not place or cut(total, weight, target, key, seed):
            found.append(place)
            total = 0
        total += weight
    return found


def cut(total: int, weight: int, target: int, key: bytes, seed: int) -> bool:
    """Tell whether a key begins another block, given the weight of the block before it."""
    if 4 * total < target:
        return False
    if total >= 4 * target:
        return True
    chance = xxhash.xxh3_64_intdigest(key, seed)
    if total < target:
        return 4 * target * chance >> 64 < weight
    return target * chance >> 64 < 4 * weight


def cut_rows(rows: Segment, target: int) -> list[Segment]:
    """Cut changes into blocks."""
    keys = [row[0].encode() for row in rows]
    starts = cuts(keys, [CHANGE_WEIGHT + len(key) for key in keys], target, 0)
    return [rows[start:stop] for start, stop in pairwise([*starts, len(rows)])]


# -------------------------------------------------------------------------------------------------- blocks


def finish(counts: tuple[int, int], widths: Sequence[int], columns: Iterable[bytes]) -> bytes:
    """Return a block or page: its head and its columns."""
    body = HEAD.pack(*counts, bytes(widths).ljust(8, b"\0")) + b"".join(columns)
    return xxhash.xxh3_64_intdigest(body).to_bytes(8, "little") + body


def words(numbers: Iterable[int], width: int = 8) -> bytes:
    """Return numbers of a width, one after another."""
    return b"".join(number.to_bytes(width, "little") for number in numbers)


def encode_block(rows: Segment) -> bytes:
    """Return the one encoding of some changes as a block."""
    keys = [row[0].encode() for row in rows]
    greatest = maxima(rows)
    place = {origin: at for at, origin in enumerate(greatest)}
    base = min(row[2] for row in rows)
    expires = [row[6] for row in rows]
    numbers = [
        [row[2] - base for row in rows],
        [place[row[1]] for row in rows],
        [row[4] for row in rows],
        expires,
        [len(key) for key in keys],
    ]
    widths = [width_of(max(column)) for column in numbers]
    widths[3] *= any(expires)
    stamp, origin, size, _, key_size = map(pack_numbers, numbers)
    columns = [
        words([base, *greatest, *greatest.values()]),
        stamp,
        origin,
        bytes(row[3] for row in rows),
        size,
        pack_numbers(expires) if any(expires) else b"",
        b"".join(row[5] for row in rows),
        key_size,
        *keys,
    ]
    return finish((len(rows), len(greatest)), widths, columns)


class Columns:
    """The columns of a block or page, cut off one after another."""

    def __init__(self, data: bytes) -> None:
        """Check length and checksum, and read the head."""
        if not 24 <= len(data) <= PART_BYTES_MAX:
            refuse("a block or page of that length")
        if data[:8] != xxhash.xxh3_64_intdigest(data[8:]).to_bytes(8, "little"):
            refuse("checksum differs")
        self.count, self.origins, self.widths = HEAD.unpack_from(data, 8)
        self.data, self.at = data, 24

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        self.at += length
        if self.at > len(self.data):
            refuse("a column passes the end")
        return self.data[self.at - length : self.at]

    def words(self, count: int, width: int = 8) -> list[int]:
        """Return the next numbers of a width."""
        column = self.take(count * width)
        return [int.from_bytes(column[at : at + width], "little") for at in range(0, len(column), width)]

    def numbers(self, count: int, place: int) -> list[int]:
        """Return the next numbers, whose width stands in the head."""
        width = self.widths[place]
        numbers = list(read_numbers(self.take(count * width), count))
        return numbers if width == width_of(max(numbers, default=0)) else refuse("not the least width")

    def keys(self, sizes: Sequence[int]) -> list[str]:
        """Return the keys, which are whatever is left."""
        return read_keys(sizes, self.data[self.at :])  # type: ignore[arg-type]


def decode_block(data: bytes) -> Segment:
    """Return the changes of a block after every check that the format asks for."""
    columns = Columns(data)
    count = columns.count
    if not count or any(columns.widths[5:]):
        refuse("no such head")
    base = columns.words(1)[0]
    known, greatest = columns.words(columns.origins), columns.words(columns.origins)
    stamps = [base + stamp for stamp in columns.numbers(count, 0)]
    places = columns.numbers(count, 1)
    if min(stamps) != base or max(stamps) > U64_MAX or max(places) >= len(known):
        refuse("stamps or origins are out of range")
    flags, sizes = columns.take(count), columns.numbers(count, 2)
    expires = read_expires(columns.take(count * columns.widths[3]), count)
    digests = read_digests(columns.take(32 * count), count)
    keys = columns.keys(columns.numbers(count, 4))
    check_flags(flags, sizes, expires, digests)  # type: ignore[arg-type]
    origins = [known[place] for place in places]
    rows = list(zip(keys, origins, stamps, flags, sizes, digests, expires, strict=True))
    if list(maxima(rows).items()) != list(zip(known, greatest, strict=True)):
        refuse("origins and their greatest stamps are not exact")
    return rows


# ---------------------------------------------------------------------------------------------- directory


@dataclass(frozen=True)
class Part:
    """What a directory says of a block or page."""

    first_key: str
    count: int
    pack: int
    offset: int
    length: int
    checksum: int
    sums: tuple[int, int]  # over the changes, and over their content
    maxima: dict[int, int]


@dataclass(frozen=True)
class Directory:
    """What one segment in blocks consists of."""

    target: int
    depth: int
    packs: list[str]
    parts: list[Part]


def sums_of(rows: Iterable[Row]) -> tuple[int, int]:
    """Return the sums over some changes and over their content."""
    changes = contents = 0
    for key, origin, stamp, flags, size, digest, expires in rows:
        raw = key.encode()
        head = struct.pack("<Q", len(raw)) + raw + bytes([flags & TOMBSTONE]) + struct.pack("<Q", expires)
        content = xxhash.xxh3_128_intdigest(head + digest)
        contents += content
        facts = content.to_bytes(16, "little") + struct.pack("<QQQB", origin, stamp, size, flags)
        changes += xxhash.xxh3_128_intdigest(facts)
    return changes % 2**128, contents % 2**128


def describe(
    part: bytes, offset: int, first_key: str, count: int, total: tuple[tuple[int, int], dict[int, int]]
) -> Part:
    """Return what a directory says of a block or page in its first pack."""
    checksum = int.from_bytes(part[:8], "little")
    return Part(first_key, count, 0, offset, len(part), checksum, *total)


def build(rows: Segment, pack: str, target: int = TARGET) -> tuple[Directory, bytes]:
    """Cut changes into blocks; return their directory, and the pack in which they lie."""
    out = bytearray()
    blocks = []
    for block in cut_rows(rows, target):
        data = encode_block(block)
        blocks.append(describe(data, len(out), block[0][0], len(block), (sums_of(block), maxima(block))))
        out += data
    packs = [pack] if blocks else []
    if len(blocks) <= BLOCKS_MAX:
        return Directory(target, 1, packs, blocks), bytes(out)
    keys = [block.first_key.encode() for block in blocks]
    starts = cuts(keys, [1] * len(keys), PAGE_TARGET, 1)
    pages = []
    for start, stop in pairwise([*starts, len(blocks)]):
        page = blocks[start:stop]
        data = encode_page(page)
        pages.append(describe(data, len(out), page[0].first_key, sum(block.count for block in page), totals(page)))
        out += data
    return Directory(target, 2, packs, pages), bytes(out)


def totals(parts: Sequence[Part]) -> tuple[tuple[int, int], dict[int, int]]:
    """Return the sums and the greatest stamps over some parts."""
    sums = tuple(sum(column) % 2**128 for column in zip(*(part.sums for part in parts), strict=True))
    greatest: dict[int, int] = {}
    for part in parts:
        for origin, stamp in part.maxima.items():
            greatest[origin] = max(stamp, greatest.get(origin, 0))
    return (sums[0], sums[1]), dict(sorted(greatest.items()))


def encode_page(parts: Sequence[Part]) -> bytes:
    """Return the one encoding of some parts."""
    origins = sorted({origin for part in parts for origin in part.maxima})
    stamps = [stamp for part in parts for stamp in part.maxima.values()]
    base = min(stamps, default=0)
    keys = [part.first_key.encode() for part in parts]
    numbers = [
        [part.count for part in parts],
        [part.pack for part in parts],
        [part.offset for part in parts],
        [part.length for part in parts],
        [len(part.maxima) for part in parts],
        [origins.index(origin) for part in parts for origin in part.maxima],
        [stamp - base for stamp in stamps],
        [len(key) for key in keys],
    ]
    columns = list(map(pack_numbers, numbers))
    fixed = [
        words(part.checksum for part in parts),
        *(words((part.sums[n] for part in parts), 16) for n in (0, 1)),
    ]
    widths = [width_of(max(column, default=0)) for column in numbers]
    return finish(
        (len(parts), len(origins)), widths, [words([base, *origins]), *columns[:4], *fixed, *columns[4:], *keys]
    )


def decode_page(data: bytes) -> list[Part]:
    """Return the parts of a page after every check that the format asks for."""
    columns = Columns(data)
    count = columns.count
    base = columns.words(1)[0]
    origins = columns.words(columns.origins)
    counts, packs, offsets, lengths = (columns.numbers(count, place) for place in range(4))
    checksums = columns.words(count)
    sums = list(zip(columns.words(count, 16), columns.words(count, 16), strict=True))
    held = columns.numbers(count, 4)
    places, stamps = columns.numbers(sum(held), 5), columns.numbers(sum(held), 6)
    keys = columns.keys(columns.numbers(count, 7))
    if set(places) != set(range(len(origins))) or not ascending(origins) or 0 in held:
        refuse("origins that do not occur")
    if min(stamps, default=base) or base + max(stamps, default=0) > U64_MAX:
        refuse("greatest stamps out of range")
    ends = list(accumulate(held, initial=0))
    spans = [slice(start, stop) for start, stop in zip(ends, islice(ends, 1, None), strict=False)]
    if not all(ascending(places[span]) for span in spans):
        refuse("the origins of a part do not ascend")
    if not all(map(sound, counts, packs, offsets, lengths)):
        refuse("a part is out of range")
    greatest = [
        {origins[place]: base + stamp for place, stamp in zip(places[span], stamps[span], strict=True)}
        for span in spans
    ]
    return list(map(Part, keys, counts, packs, offsets, lengths, checksums, sums, greatest))


def sound(count: int, pack: int, offset: int, length: int) -> bool:
    """Tell whether what a page says of a part is within the limits."""
    return 0 < count < 1 << 48 and pack < 1 << 32 and offset < 1 << 48 and 24 <= length <= PART_BYTES_MAX


DIRECTORY_FIELDS: Final = {"name": str, "target": int, "depth": int, "packs": list, "table": bytes}


def encode_directory(directory: Directory, name: str, *, compress: bool = False) -> bytes:
    """Return the one encoding of a directory under a name."""
    body = {
        "name": name,
        "target": directory.target,
        "depth": directory.depth,
        "packs": directory.packs,
        "table": encode_page(directory.parts),
    }
    return seal(KIND_DIRECTORY, msgpack.packb(body), compress=compress)


def decode_directory(data: bytes, name: str) -> Directory:
    """Return a directory after every check that the format asks for."""
    body = unpack(unseal(KIND_DIRECTORY, data), name, DIRECTORY_FIELDS)
    target, depth, packs = body["target"], body["depth"], body["packs"]
    if not 64 <= target <= 1 << 20 or depth not in (1, 2):
        refuse("no such target or depth")
    if not all(type(pack) is str and len(pack.encode()) <= 255 for pack in packs) or not ascending(packs):
        refuse("names of packs do not ascend")
    parts = decode_page(body["table"])
    if len(packs) > 1 << 16 or any(part.pack >= len(packs) for part in parts):
        refuse("no such pack")
    if depth == 1:
        check_blocks(parts, target)
    return Directory(target, depth, packs, parts)


def check_blocks(blocks: Sequence[Part], target: int) -> None:
    """Check the limits of a table of blocks."""
    if len(blocks) > BLOCKS_MAX or any(block.count > 4 * target // CHANGE_WEIGHT + 2 for block in blocks):
        refuse("more blocks, or more changes in one, than there may be")
