"""The base of a log: its oldest segment, kept in blocks once it is large, so that a run reads only parts of it.

Newer segments are whole; to the base they are patches. What of a log a run reads is a value of both: `Layers`. Those
who need a base as one segment load all of its blocks (`Base.whole`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from kvsync.errors import IndexDamagedError
from kvsync.index.manifest import SegmentEntry
from kvsync.index.objects import PACK_PREFIX, damaged, reading, store_if
from kvsync.native import KIND_DIRECTORY, BlockDelta, BlockMerge, BlockReader, Directory, Segment, checksum, delta
from kvsync.storages.contract import has_ranges
from kvsync.storages.ranges import read_ranges
from kvsync.types import ABSENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    from kvsync.environment import Environment
    from kvsync.native import Cover, Delta
    from kvsync.storages.contract import Storage

__all__ = ["SIZES", "Base", "Layers", "Passing", "Sizes", "becomes_base", "compare", "is_directory", "write_base"]

Need = tuple[int, str, int, int]
"""The number of a side or run, the name of a pack, offset and length."""


@dataclass
class Sizes:
    """How large bases and what they consist of are.

    Attributes:
        base: a segment of fewer changes is kept whole.
        target: about how many bytes a block has.
        pack: about how many bytes a pack has.
        small_pack: the same where a storage reads objects only as a whole, or is on this machine.
        read_ahead: about how many bytes are read at once.
    """

    base: int = 1 << 15
    target: int = 19 << 10
    pack: int = 4 << 20
    small_pack: int = 128 << 10
    read_ahead: int = 4 << 20


SIZES: Final = Sizes()

KEPT_BYTES_MAX: Final = 8 << 20
"""A run that decides conflicts compares twice, and looks for some keys again."""

KIND_AT = 4
"""Where the envelope of an object says its kind."""

PACK_NAME: Final = rf"{PACK_PREFIX}[0-9a-f]{{32}}"

SMALL_SHARE: Final = 4
"""A log without blocks is compared with a base as a whole if it has more than this part of the base's changes: then
most blocks would have to be read anyway."""


def is_directory(data: bytes) -> bool:
    """Whether an object says that it is a directory."""
    return data[KIND_AT : KIND_AT + 1] == bytes([KIND_DIRECTORY])


class Base:
    """A segment in blocks.

    Attributes:
        name: of its directory.
        directory: what it consists of.
        segment: all of it, where it is at hand.
    """

    def __init__(self, storage: Storage, name: str, directory: Directory, segment: Segment | None = None) -> None:
        self._storage = storage
        self._kept: dict[tuple[str, int, int], bytes] = {}
        self._kept_bytes = 0
        self.name = name
        self.directory = directory
        self.segment = segment

    @classmethod
    def decode(cls, storage: Storage, name: str, data: bytes) -> Base:
        """Read a directory.

        Raises:
            IndexDamagedError: it fails its checks.
            FormatError: a newer kvsync wrote it.
        """
        with reading(name, storage.name):
            directory = Directory.decode(data, name)
        if not all(re.fullmatch(PACK_NAME, pack) for pack in directory.packs):
            raise damaged(storage.name, name, "names a pack that is none")
        return cls(storage, name, directory)

    def __len__(self) -> int:
        """Return the number of changes."""
        return len(self.directory)

    def read(self, needs: Sequence[Need]) -> list[bytes]:
        """Return the bytes of ranges of its packs; the first few MiB are kept, as the next reader may need the same.

        Raises:
            IndexDamagedError: a pack is absent, or shorter than the directory says.
        """
        ranges: dict[str, list[tuple[int, int]]] = {}
        for _, pack, offset, length in needs:
            if (pack, offset, length) not in self._kept:
                ranges.setdefault(pack, []).append((offset, length))
        found: dict[tuple[str, int, int], bytes] = {}
        for pack, wanted in ranges.items():
            for (offset, length), data in zip(wanted, self._read_pack(pack, wanted), strict=True):
                found[pack, offset, length] = data
        self._keep(found)
        return [found[need[1:]] if need[1:] in found else self._kept[need[1:]] for need in needs]

    def _keep(self, found: Mapping[tuple[str, int, int], bytes]) -> None:
        size = sum(map(len, found.values()))
        if self._kept_bytes + size <= KEPT_BYTES_MAX:
            self._kept.update(found)
            self._kept_bytes += size

    def _read_pack(self, pack: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        read = read_ranges(self._storage, pack, ranges)
        if read is None:
            raise damaged(self._storage.name, pack, "is missing")
        if [len(data) for data in read] != [length for _, length in ranges]:
            raise damaged(self._storage.name, pack, f"is shorter than {self.name} says")
        return read

    def require_packs(self) -> None:
        """Raise an error if a pack is absent.

        Raises:
            IndexDamagedError: one is.
        """
        for pack in self.directory.packs:
            self._read_pack(pack, [(0, 1)])

    def find(self, keys: Sequence[str]) -> Segment:
        """Return a segment that has the changes of these keys; blocks that cannot have them are not read.

        Raises:
            IndexDamagedError: a block fails its checks.
        """
        if self.segment is not None:
            return self.segment
        return self._loaded(BlockReader(self.directory, keys, "usual", SIZES.read_ahead))

    def whole(self, scrutiny: Literal["usual", "thorough"] = "usual") -> Segment:
        """Return all changes, and keep them at hand.

        Raises:
            IndexDamagedError: a block fails its checks.
        """
        if self.segment is None or scrutiny == "thorough":
            reader = BlockReader(self.directory, None, scrutiny, SIZES.read_ahead)
            self.segment = self._loaded(reader)
        return self.segment

    def salvaged(self) -> Segment:
        """Return the changes of all intact blocks."""
        reader = BlockReader(self.directory, None, "lenient", SIZES.read_ahead)
        while needs := reader.needs():
            reader.feed([self._salvaged(need) for need in needs])
        return reader.take()

    def _salvaged(self, need: Need) -> bytes:
        _, pack, offset, length = need
        read = read_ranges(self._storage, pack, [(offset, length)])
        return (read[0] if read is not None else b"").ljust(length, b"\0")

    def _loaded(self, reader: BlockReader) -> Segment:
        while needs := reader.needs():
            ranges = self.read(needs)
            try:
                reader.feed(ranges)
            except IndexDamagedError as error:
                # A later block of the same pack may be damaged as well: the offset is that of the first.
                name = error.name or self.name
                raise damaged(self._storage.name, name, f"is damaged: {error.message}", error.offset) from error
        return reader.take()


class Layers(NamedTuple):
    """Some of the newest segments of a log, oldest to newest.

    Attributes:
        base: the oldest of them, where it is in blocks.
        segments: all others.
    """

    base: Base | None
    segments: list[Segment]

    def whole(self) -> list[Segment]:
        """Return all of them whole.

        Raises:
            IndexDamagedError: a block fails its checks.
        """
        return self.segments if self.base is None else [self.base.whole(), *self.segments]

    def with_changes_of(self, keys: Sequence[str]) -> list[Segment]:
        """Return segments that have all changes of these keys.

        Raises:
            IndexDamagedError: a block fails its checks.
        """
        return self.segments if self.base is None else [self.base.find(keys), *self.segments]

    @property
    def runs(self) -> list[Directory | Segment]:
        """All of them, to be merged."""
        return list(self.segments) if self.base is None else [self.base.directory, *self.segments]


def compare(a: Layers, b: Layers, cover_a: Cover, cover_b: Cover) -> Delta:
    """Return what each side misses, as `delta` of all their changes; equal or covered blocks are not read.

    Raises:
        IndexDamagedError: a block fails its checks, or a change to be sent has a key that is reserved.
    """
    sides = _simplified(a, b)
    if all(side.base is None for side in sides):
        return delta(sides[0].segments, sides[1].segments, cover_a, cover_b)
    empty = Directory.build(Segment.from_rows([]), "")[0]
    one, other = (empty if side.base is None else side.base.directory for side in sides)
    patches_a, patches_b = (side.segments for side in sides)
    bases = [side.base for side in sides]
    cursor = BlockDelta(one, other, cover_a, cover_b, patches_a, patches_b, SIZES.read_ahead)
    while cursor.needs():
        _feed(cursor, bases)
    return cursor.take()


def _simplified(a: Layers, b: Layers) -> tuple[Layers, Layers]:
    """Return both sides, each without blocks where comparing them would save nothing."""
    if all(side.base is None or side.base.segment is not None for side in (a, b)):
        return Layers(None, a.whole()), Layers(None, b.whole())
    if (a.base is None) == (b.base is None):
        return a, b
    layers, others = (a, b) if b.base is None else (b, a)
    base = layers.base
    if base is not None and (base.segment is not None or SMALL_SHARE * sum(map(len, others.segments)) > len(base)):
        layers = Layers(None, layers.whole())
    return (layers, others) if b.base is None else (others, layers)


def _feed(cursor: BlockDelta | BlockMerge, bases: Sequence[Base | None]) -> None:
    """Feed a cursor over some bases what it needs; the needs of each are together."""
    needs = cursor.needs()
    ranges: list[bytes] = []
    for number, base in enumerate(bases):
        wanted = [need for need in needs if need[0] == number]
        if base is not None and wanted:
            ranges += base.read(wanted)
    try:
        cursor.feed(ranges)
    except IndexDamagedError:
        # The cursor does not know in which pack the block is.
        for base in bases:
            if base is not None:
                base.whole()
        raise


# Writing


def becomes_base(older: Sequence[SegmentEntry], count: int) -> bool:
    """Whether a new segment of so many changes becomes the base, together with all `older` ones."""
    return count >= SIZES.base and sum(entry.length for entry in older) <= count


class Passing(NamedTuple):
    """What of some segments leaves nothing some day: the least stamp of each origin, and how many changes."""

    least: Mapping[int, int]
    total: int

    @classmethod
    def of(cls, segment: Segment) -> Passing:
        """Return what is so of a segment."""
        return cls(segment.passing, segment.tombstones + segment.expiring)

    @classmethod
    def of_merged(cls, all_passing: Iterable[Passing]) -> Passing:
        """Return what may be so of segments once they are merged: what is beaten then is counted, too."""
        least: dict[int, int] = {}
        total = 0
        for passing in all_passing:
            total += passing.total
            for origin, stamp in passing.least.items():
                least[origin] = min(stamp, least.get(origin, stamp))
        return cls(least, total)


def write_base(
    storage: Storage, environment: Environment, name: str, layers: Layers, passing: Passing
) -> tuple[SegmentEntry, Base]:
    """Merge layers into a base in blocks, and store it under a fresh name; return what a manifest lists.

    Blocks that stay as they are remain in the packs in which they are.

    Raises:
        IndexDamagedError: a block fails its checks.
        StorageError: the storage failed.
    """
    pack = _fresh_pack(environment)
    # SQLite walks to a range from the start of its object, page by page.
    is_far = has_ranges(storage) and storage.capabilities.distance != "mapped"
    pack_bytes = SIZES.pack if is_far else SIZES.small_pack
    merge = BlockMerge(layers.runs, pack, SIZES.target, SIZES.read_ahead, pack_bytes)
    while not merge.done:
        if merge.pack_bytes >= pack_bytes:
            store_if(storage, pack, merge.take(), ABSENT)
            pack = _fresh_pack(environment)
            merge.begin_pack(pack)
        _feed(merge, [layers.base])
    start = merge.take()
    directory, rest = merge.finish()
    if start or rest:
        store_if(storage, pack, start + rest, ABSENT)
    data = directory.encode(name, storage.capabilities.distance == "network")
    store_if(storage, name, data, ABSENT)
    entry = SegmentEntry(
        name,
        tuple(directory.maxima.items()),
        len(directory),
        tuple(sorted(passing.least.items())),
        passing.total,
        len(data) + merge.block_bytes,
        checksum(data),
        None,
    )
    return entry, Base(storage, name, directory)


def _fresh_pack(environment: Environment) -> str:
    # Random, so that a holder that lost its lease can never write a pack that we refer to.
    return PACK_PREFIX + environment.nonce().hex()
