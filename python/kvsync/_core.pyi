"""The native part of kvsync: index format, merge and delta (`rust/kvsync-py` over `rust/kvsync-core`).

Errors are those of `kvsync.errors`; an int that is negative or passes 64 bits raises `OverflowError`. The items of a
sequence are borrowed, not copied. Large work releases the interpreter's lock. Values, tokens and digests are exactly
`bytes`: no subclass, no `bytearray`. All times are in milliseconds since 1970.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, final

__all__ = [
    "DEBUG_BUILD",
    "DECISION",
    "FORMAT_VERSION",
    "INEXACT",
    "KIND_DIRECTORY",
    "KIND_INVENTORY",
    "KIND_LEASE",
    "KIND_LOST",
    "KIND_MANIFEST",
    "KIND_PIECE",
    "KIND_SEGMENT",
    "TOMBSTONE",
    "BlockDelta",
    "BlockMerge",
    "BlockReader",
    "Correction",
    "Cover",
    "Delta",
    "Directory",
    "Filter",
    "FoundValues",
    "Given",
    "Hasher",
    "Merge",
    "Page",
    "Piece",
    "Segment",
    "Unread",
    "Walk",
    "check_key",
    "checksum",
    "delta",
    "digest_values",
    "newest_digest",
    "seal",
    "stamp_after",
    "stamp_found",
    "unseal",
]

_Row: TypeAlias = tuple[str, int, int, int, int, bytes, int]  # (key, origin, stamp, flags, size, digest, expires)

FORMAT_VERSION: Final[int]
"""The format version that is written, and the highest that is read."""
DEBUG_BUILD: Final[bool]
"""Whether the module was built without optimisation: exact, but slow."""
TOMBSTONE: Final[int]
"""Bit 0 of a change's flags: the change is a delete."""
DECISION: Final[int]
"""Bit 1 of a change's flags: a conflict policy made the change."""
INEXACT: Final[int]
"""Bit 2 of a change's flags: the time in the stamp is not exactly when the change was made."""
KIND_SEGMENT: Final[int]
"""The kind of an immutable sorted set of changes."""
KIND_MANIFEST: Final[int]
"""The kind of the mutable record of a replica."""
KIND_LEASE: Final[int]
"""The kind of the lock of a storage."""
KIND_INVENTORY: Final[int]
"""The kind of what the last scan of a storage saw: which pieces say that."""
KIND_LOST: Final[int]
"""The kind of a value that lost a conflict."""
KIND_PIECE: Final[int]
"""The kind of an immutable part of an inventory."""
KIND_DIRECTORY: Final[int]
"""The kind of what describes a segment in blocks."""

def seal(kind: int, body: bytes, compress: bool = False) -> bytes:
    """Put a packed body into an envelope.

    With `compress`, the body is stored as one zstd frame where that is smaller.

    Raises:
        UsageError: There is no such kind.
    """

def unseal(kind: int, data: bytes) -> bytes:
    """Check the envelope of an object and return its packed body, decompressed if necessary.

    Raises:
        FormatError: The object is intact and has a higher format version.
        IndexDamagedError: A check failed at `offset`, in bytes.
        UsageError: There is no such kind.
    """

def checksum(data: bytes) -> int:
    """Return the checksum field of an object, unchecked.

    Raises:
        IndexDamagedError: The object is shorter than its envelope.
    """

def stamp_after(now_ms: int, seen: int) -> int:
    """Return the least stamp at a time that is greater than `seen`, the greatest stamp seen so far.

    Raises:
        ClockError: The stamp would pass 64 bits.
    """

def digest_values(values: Sequence[bytes]) -> list[bytes]:
    """Return BLAKE3 of each value, 32 bytes each.

    Raises:
        UsageError: A value is not bytes.
    """

def check_key(key: str) -> None:
    """Refuse a key that has no UTF-8 encoding, or that some file system takes for the index.

    Raises:
        UsageError: The key is refused.
    """

@final
class Cover:
    """The changes that a replica holds: a version vector with exceptions. Immutable, equal by value, hashable."""

    def __new__(cls, vector: dict[int, int] | None = None, exceptions: Sequence[tuple[int, int, int]] = ()) -> Cover:
        """Build a cover in its one normal form.

        Args:
            vector: The stamp of each origin up to which every change is held.
            exceptions: Ranges held beyond the vector, (origin, first stamp, last stamp), in any order.
                They may overlap.

        Raises:
            UsageError: A range ends before it begins.
        """

    @property
    def vector(self) -> dict[int, int]:
        """The stamp of each origin up to which every change is held, ascending by origin."""

    @property
    def exceptions(self) -> list[tuple[int, int, int]]:
        """The ranges held beyond the vector, (origin, first stamp, last stamp), ascending, not touching each other."""

    def covers(self, origin: int, stamp: int) -> bool:
        """Tell whether one change is held."""

    def includes(self, other: Cover) -> bool:
        """Tell whether every change of `other` is held."""

    def __eq__(self, other: object, /) -> bool:
        """Tell whether both hold the same changes in the same form."""

    def __hash__(self) -> int:
        """Return a hash that equal covers share."""

@final
class Segment:
    """An immutable set of changes, ascending by key in the order of UTF-8, at most one for each key.

    `start` and `stop` are positions in that order and are cut to the changes that exist.
    """

    @staticmethod
    def decode(data: bytes, name: str) -> Segment:
        """Open and validate an object, over the given bytes if they are not compressed.

        Raises:
            FormatError: The object is intact and has a higher format version.
            IndexDamagedError: A check failed at `offset`, or the object has another name.
        """

    @staticmethod
    def decode_all(objects: Sequence[tuple[bytes, str]]) -> list[Segment]:
        """Open and validate objects, each given with its name; several threads check large ones.

        Raises:
            FormatError: As `decode`, for the first object that is refused.
            IndexDamagedError: As `decode`, for the first object that is refused.
        """

    @staticmethod
    def from_rows(rows: Sequence[_Row]) -> Segment:
        """Build a segment from changes in any order; of several changes of a key, the greatest counts.

        Raises:
            UsageError: A key is refused, a flag is unknown, or a delete has a size, a digest or an expiry.
        """

    @staticmethod
    def from_values(
        keys: Sequence[str],
        values: Sequence[bytes | None],
        origin: int,
        stamp: int,
        flags: int = 0,
        expires: Sequence[int] | None = None,
    ) -> Segment:
        """Build the segment that logs some values, with consecutive stamps in key order.

        Args:
            keys: The keys, in any order. Of a key given several times, the last value counts.
            values: The value of each key, None for a delete.
            origin: The replica that makes the changes.
            stamp: The first stamp.
            flags: The flags of every change: 0 or `DECISION`.
            expires: When each value expires; 0 for never, and for a delete.

        Raises:
            ClockError: A stamp would pass 64 bits.
            UsageError: A key, value or expiry is refused, or the sequences differ in length.
        """

    @staticmethod
    def merge(segments: Sequence[Segment]) -> Segment:
        """Return the newest change of each key; the segment itself if there is only one.

        Raises:
            UsageError: The result is more than the format holds.
        """

    def encode(self, name: str, compress: bool = False, note: bytes | None = None) -> bytes:
        """Return the whole object. The first one that was asked for is remembered.

        Args:
            name: Of the object.
            compress: Whether to store a zstd frame where that is smaller.
            note: What to note beside the changes; nothing where it is None.

        Raises:
            UsageError: A column passes 4 GiB.
        """

    @property
    def note(self) -> bytes:
        """What the object noted beside the changes; empty for a segment that was not decoded."""

    def __len__(self) -> int:
        """Return the number of changes."""

    @property
    def maxima(self) -> dict[int, int]:
        """The greatest stamp of each origin, ascending by origin."""

    @property
    def stamp_max(self) -> int:
        """The greatest stamp, 0 without changes."""

    @property
    def passing(self) -> dict[int, int]:
        """The least stamp of each origin among deletes and values that expire, ascending by origin."""

    @property
    def stamp_min(self) -> int:
        """The least stamp, 0 without changes."""

    @property
    def exact_stamp_min(self) -> int | None:
        """The least stamp among the changes whose time is exact."""

    @property
    def value_bytes(self) -> int:
        """The sum of the sizes of all values, in bytes."""

    @property
    def nbytes(self) -> int:
        """How many bytes the segment takes in memory, without the object that `encode` remembers."""

    @property
    def tombstones(self) -> int:
        """The number of deletes."""

    @property
    def expiring(self) -> int:
        """The number of values that expire, known without a look at them."""

    def batches(self, count_max: int, bytes_max: int) -> list[tuple[int, int]]:
        """Cut the changes into consecutive ranges (start, stop).

        Args:
            count_max: The most changes of a range.
            bytes_max: The most bytes of values of a range; a larger value makes a range of its own.

        Raises:
            UsageError: `count_max` is 0.
        """

    def puts(self, start: int, stop: int) -> list[str]:
        """Return the keys of the puts in a range."""

    def expires(self, start: int, stop: int) -> list[int]:
        """Return when each put of a range expires, 0 for never; parallel to `puts`."""

    def expired(self, now_ms: int) -> list[str]:
        """Return the keys of the values that have expired: those with 0 < expires <= now_ms."""

    def deletes(self, start: int, stop: int) -> list[str]:
        """Return the keys of the deletes in a range."""

    def rows(self, start: int, stop: int) -> list[_Row]:
        """Return the changes in a range."""

    def mismatches(self, start: int, stop: int, values: Sequence[object]) -> list[int]:
        """Return the positions, among the puts of a range, of the values that differ from the logged one.

        Args:
            start: The first change.
            stop: The end of the range.
            values: One object for each put of the range. One that is not bytes always differs.

        Raises:
            UsageError: There are fewer or more values than puts.
        """

    def find(self, keys: Sequence[str]) -> list[_Row | None]:
        """Return the change of each of some keys, None where there is none; quickest where the keys ascend.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def without(self, keys: Sequence[str]) -> Segment:
        """Return the segment without some keys, given in any order.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def collected(self, limits: dict[int, int], expired_ms: int, keep: Sequence[str]) -> tuple[Segment, dict[int, int]]:
        """Return the segment without deletes and expired values that nobody needs any more.

        Args:
            limits: {origin: stamp} up to which its changes may go.
            expired_ms: When a value has to have expired to go; wall-clock milliseconds.
            keep: Keys whose changes stay.

        Returns:
            The segment, and the greatest stamp of each origin of the changes that went.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def renamed(self, spans: Sequence[tuple[int, int, int, int]]) -> Segment:
        """Return the same changes, with another origin for some.

        Args:
            spans: (origin, first stamp, last stamp, new origin); of several that hold a change the first counts.
        """

@final
class Given:
    """Changes with the caller's own key and value objects, so that what was just given need not be read back.

    Positions are those of the segment that logs the changes: ascending by key. `start` and `stop` are cut to the
    changes that exist.
    """

    def __new__(
        cls,
        keys: Sequence[str],
        values: Sequence[bytes | None],
        origin: int,
        stamp: int,
        expires: Sequence[int] | None = None,
    ) -> Given:
        """Check changes and put them in order.

        Args:
            keys: As for `Segment.from_values`.
            values: As for `Segment.from_values`.
            origin: As for `Segment.from_values`.
            stamp: As for `Segment.from_values`.
            expires: As for `Segment.from_values`.

        Raises:
            ClockError: As `Segment.from_values`.
            UsageError: As `Segment.from_values`.
        """

    def __len__(self) -> int:
        """Return the number of changes; a key given several times is one."""

    @property
    def segment(self) -> Segment:
        """The segment that logs the changes; their digests are computed when it is first asked for."""

    def batches(self, count_max: int, bytes_max: int) -> list[tuple[int, int]]:
        """Cut the changes into consecutive ranges, as `Segment.batches`, without computing a digest.

        Raises:
            UsageError: `count_max` is 0.
        """

    def part(self, start: int, stop: int) -> tuple[list[str], list[bytes], list[int] | None, list[str]]:
        """Return the changes in a range as keys, values and expiries of puts, and keys of deletes.

        The expiries are None if none were given.
        """

    def puts(self, changes: Segment, start: int, stop: int) -> tuple[list[str], list[bytes]] | None:
        """Return keys and values of the puts in a range of `changes`; None if one of them was not given here."""

@final
class Hasher:
    """BLAKE3 of a value that comes in parts."""

    def __new__(cls) -> Hasher:
        """Begin with an empty value."""

    def update(self, part: bytes) -> None:
        """Add the next part."""

    def digest(self) -> bytes:
        """Return the digest of all parts so far, 32 bytes."""

@final
class Delta:
    """What each of two sides misses of the other."""

    @property
    def to_a(self) -> Segment:
        """Changes to apply at side A."""

    @property
    def to_b(self) -> Segment:
        """Changes to apply at side B."""

    @property
    def log_a(self) -> Segment:
        """Changes to log at side A only, because it has their value with their expiry."""

    @property
    def log_b(self) -> Segment:
        """Changes to log at side B only, because it has their value with their expiry."""

    @property
    def conflicts(self) -> list[tuple[_Row, _Row]]:
        """A's and B's change of each key that both changed concurrently, to another value or another expiry."""

def delta(
    a: Sequence[Segment],
    b: Sequence[Segment],
    cover_a: Cover,
    cover_b: Cover,
) -> Delta:
    """Compare the newest changes of two sides by what the other side holds.

    Args:
        a: Segments of side A, among them every one with a change that B may miss.
        b: Segments of side B, among them every one with a change that A may miss.
        cover_a: The changes that A holds.
        cover_b: The changes that B holds.

    Raises:
        IndexDamagedError: A change to be sent has a key that is reserved for the index.
        UsageError: The result is more than the format holds.
    """

@final
class Directory:
    """What one segment in blocks consists of: where each block lies, and what is in it. Immutable."""

    @staticmethod
    def decode(data: bytes, name: str) -> Directory:
        """Open and validate the object of a name.

        Raises:
            FormatError: The object is intact and has a higher format version.
            IndexDamagedError: A check failed at `offset`, in bytes.
        """

    @staticmethod
    def build(segment: Segment, pack: str, target: int | None = None) -> tuple[Directory, bytes]:
        """Cut a segment into blocks; return their directory, and the pack of that name in which they lie.

        Args:
            segment: The changes.
            pack: The name of the pack.
            target: About how many bytes a block has, 64 to 2^20.

        Raises:
            UsageError: The target is out of range, or a block passes 64 MiB.
        """

    def encode(self, name: str, compress: bool = False) -> bytes:
        """Return the whole object.

        Raises:
            UsageError: There are more packs than the format holds, or a name of one is too long.
        """

    def __len__(self) -> int:
        """Return the number of changes."""

    @property
    def target(self) -> int:
        """About how many bytes a block has."""

    @property
    def depth(self) -> int:
        """1 if the directory describes blocks, 2 if it describes pages that describe blocks."""

    @property
    def packs(self) -> list[str]:
        """The names of the packs in which blocks and pages lie, ascending."""

    @property
    def maxima(self) -> dict[int, int]:
        """The greatest stamp of each origin, ascending by origin."""

    @property
    def nbytes(self) -> int:
        """About how many bytes the directory takes in memory."""

    @property
    def sums(self) -> tuple[bytes, bytes]:
        """The sums over all changes and over what these leave, 16 bytes each; they detect accidents, not forgery."""

_Need: TypeAlias = tuple[int, str, int, int]  # (number of the side or run, name of the pack, offset, length)

@final
class BlockReader:
    """A cursor over the changes of a segment in blocks: all of them, or those of some keys.

    Feed it what it needs until it needs nothing. Of the blocks it reads those that may hold one of the keys.
    """

    def __new__(
        cls,
        directory: Directory,
        keys: Sequence[str] | None = None,
        scrutiny: Literal["usual", "thorough", "lenient"] = "usual",
        read_ahead_bytes: int = 1048576,
    ) -> BlockReader:
        """Begin to read.

        Args:
            directory: What the segment consists of.
            keys: The keys to look for, in any order; None for all.
            scrutiny: "thorough" to refuse also wrong sums and cuts, "lenient" to leave out what is damaged.
            read_ahead_bytes: About how many bytes to need at once.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding; or there is no such scrutiny.
        """

    def needs(self) -> list[_Need]:
        """Return the ranges to read next: 0, the pack, the offset and the length; none at the end."""

    def feed(self, ranges: Sequence[bytes]) -> None:
        """Go on with the bytes of all the needed ranges, in their order.

        Raises:
            IndexDamagedError: A block or page is not what the directory says, at `offset` of the pack `name`.
            UsageError: The ranges differ from the needs in number or length.
        """

    def take(self) -> Segment:
        """Return the changes that were read since the last call; the keys ascend from call to call."""

    @property
    def block_bytes(self) -> int:
        """How many bytes the blocks have together that are known so far; all of them once the first was read."""

@final
class BlockDelta:
    """A delta in the making: a cursor over two segments in blocks, each with segments beside it.

    Feed it what it needs until it needs nothing. What it found by then is what `delta` finds in the same changes. After
    an error it is of no use.
    """

    def __new__(
        cls,
        a: Directory,
        b: Directory,
        cover_a: Cover,
        cover_b: Cover,
        patches_a: Sequence[Segment] = (),
        patches_b: Sequence[Segment] = (),
        read_ahead_bytes: int = 1048576,
    ) -> BlockDelta:
        """Compare two directories.

        Args:
            a: The blocks of side A.
            b: The blocks of side B.
            cover_a: The changes that A holds.
            cover_b: The changes that B holds.
            patches_a: Segments of side A beside the blocks.
            patches_b: Segments of side B beside the blocks.
            read_ahead_bytes: About how many bytes to need at once.

        Raises:
            IndexDamagedError: As `feed`.
        """

    def needs(self) -> list[_Need]:
        """Return the ranges to read next: 0 for A or 1 for B, the pack, the offset and the length; none at the end."""

    def feed(self, ranges: Sequence[bytes]) -> None:
        """Go on with the bytes of all the needed ranges, in their order.

        Raises:
            IndexDamagedError: A block or page is not what the directory says, at `offset` of its pack; or a change to
                be sent has a key that is reserved for the index.
            UsageError: The ranges differ from the needs in number or length.
        """

    def take(self) -> Delta:
        """Return what was found since the last call; the keys ascend from call to call."""

@final
class BlockMerge:
    """A merge in the making: a cursor over segments, some of them in blocks, and a writer of the merged blocks.

    A block that stays as it is is not read: the new directory refers to it where it lies. After an error the merge is
    of no use.
    """

    def __new__(
        cls,
        runs: Sequence[Directory | Segment],
        pack: str,
        target: int | None = None,
        read_ahead_bytes: int = 1048576,
        pack_bytes: int | None = None,
    ) -> BlockMerge:
        """Begin to merge into blocks, which are written to a pack of that name.

        Args:
            runs: The changes to merge: of each key, the newest stays.
            pack: The name of the pack.
            target: About how many bytes a block has, 64 to 2^20.
            read_ahead_bytes: About how many bytes of each run to need at once.
            pack_bytes: A pack is full once it has so many bytes; then another one has to be begun. None for one pack.

        Raises:
            IndexDamagedError: As `feed`.
            UsageError: The target is out of range.
        """

    def needs(self) -> list[_Need]:
        """Return the ranges to read next: number of the run, pack, offset and length.

        There are none once all is merged, or where the pack is full: then begin another one, and feed nothing.
        """

    def feed(self, ranges: Sequence[bytes]) -> None:
        """Go on with the bytes of all the needed ranges, in their order.

        Raises:
            IndexDamagedError: A block or page is not what the directory says, at `offset` of its pack.
            UsageError: The ranges differ from the needs in number or length, or a block passes 64 MiB.
        """

    @property
    def done(self) -> bool:
        """Whether all is merged."""

    @property
    def block_bytes(self) -> int:
        """How many bytes all merged blocks have together, once the merge is finished."""

    @property
    def pack_bytes(self) -> int:
        """How many bytes the pack that is being written has so far."""

    def take(self) -> bytes:
        """Return the bytes of the pack that were written since the last call."""

    def begin_pack(self, name: str) -> None:
        """Write to another pack from here on.

        Raises:
            UsageError: Bytes of the pack before were not taken, or there was one of that name.
        """

    def finish(self) -> tuple[Directory, bytes]:
        """Return the directory, and the bytes of the pack that were not taken.

        Raises:
            UsageError: Something is still needed, or the result is more than the format holds.
        """

def newest_digest(segments: Sequence[Segment]) -> bytes:
    """Return the digest of the newest changes of all keys, 16 bytes; it detects accidents, not forgery."""

@final
class Piece:
    """An immutable part of an inventory: what is noted of some keys, ascending. Equal bytes mean equal pieces."""

    @staticmethod
    def decode(data: bytes, name: str) -> Piece:
        """Open and validate an object, over the given bytes if they are not compressed.

        Raises:
            FormatError: The object is intact and has a higher format version.
            IndexDamagedError: A check failed at `offset`, or the object has another name.
        """

    @staticmethod
    def build(keys: Sequence[str], tokens: Sequence[bytes], digests: Sequence[bytes | None]) -> Piece:
        """Build a piece of what is noted of some keys.

        Args:
            keys: The keys, in any order. Of a key given several times, the last counts.
            tokens: The storage's version token of each key; empty where it proves nothing.
            digests: BLAKE3 of each value, 32 bytes; None where the key is gone.

        Raises:
            UsageError: A key, token or digest is refused, or the sequences differ in length.
        """

    @staticmethod
    def of_puts(segment: Segment) -> Piece:
        """Build a piece of the values that some changes leave, in a storage whose tokens are digests.

        Raises:
            UsageError: A column passes 4 GiB.
        """

    @staticmethod
    def of_found(found: FoundValues) -> Piece:
        """Build a piece of what a scan found.

        Raises:
            UsageError: The keys do not ascend, or a column passes 4 GiB.
        """

    def encode(self, name: str, compress: bool = False) -> bytes:
        """Return the whole object.

        Args:
            name: Of the object.
            compress: Whether to store a zstd frame where that is smaller.

        Raises:
            UsageError: A column passes 4 GiB.
        """

    def __len__(self) -> int:
        """Return the number of entries."""

    @property
    def nbytes(self) -> int:
        """How many bytes the piece takes in memory."""

    @property
    def first(self) -> str | None:
        """The first key, None if there is none."""

    def find(self, keys: Sequence[str]) -> list[tuple[bytes, bytes | None] | None]:
        """Return token and digest of each of some keys, None where the piece has no entry.

        The digest of a key that is gone is None.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def every(self, step: int) -> list[str]:
        """Return the first key, and every `step`-th one after it.

        Raises:
            ValueError: `step` is not positive.
        """

    def ranks(self, keys: Sequence[str]) -> list[int]:
        """Return how many entries come before each of some keys.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def entries(self) -> list[tuple[str, tuple[bytes, bytes | None]]]:
        """Return all keys, each with token and digest as in `find`."""

@final
class Page:
    """A page of a listing: keys in ascending order, each with its version token, or with what was read of its value.

    It unpacks into two lists, the keys and their tokens. The token of a value that was read is its BLAKE3, followed by
    the time if it expires: 8 bytes, little-endian; an empty token stands for a value that could not be read.
    """

    def __new__(
        cls,
        keys: Sequence[str] | None = None,
        values: Sequence[object] | None = None,
        expires: Sequence[int] | None = None,
    ) -> Page:
        """Begin a page, empty or as `add` does."""

    @staticmethod
    def of_tokens(keys: Sequence[str], tokens: Sequence[bytes]) -> Page:
        """Return a page of keys with tokens, of whose values nothing is known.

        Raises:
            UsageError: A key or token is refused, or the sequences differ in length.
        """

    def add(self, keys: Sequence[str], values: Sequence[object], expires: Sequence[int] | None = None) -> None:
        """Append keys with their values, and take the digests of these.

        Args:
            keys: The keys, after those that are in the page.
            values: The value of each key; anything but bytes stands for a value that could not be read.
            expires: When each value expires, 0 for never; empty or None if none of them does.

        Raises:
            UsageError: A key or expiry is refused, the sequences differ in length, or the page has tokens.
        """

    def add_digests(
        self, keys: Sequence[str], digests: Sequence[tuple[bytes, int] | None], expires: Sequence[int] | None = None
    ) -> None:
        """Append keys with digest and size of each value, None where it could not be read; else as `add`."""

    def add_rows(self, rows: list[Any]) -> bool:
        """Append rows as a client returns them: tuples that begin with key and value, the key as text or UTF-8.

        Return whether that was possible. If not, nothing is appended: a row is no tuple, its key cannot be one or is
        reserved, or its value is not bytes.
        """

    def __len__(self) -> int:
        """Return the number of keys."""

    def __bool__(self) -> bool:
        """Tell whether there is a key."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the list of keys, then that of tokens."""

    @property
    def keys(self) -> list[str]:
        """The keys."""

    @property
    def tokens(self) -> list[bytes]:
        """The version token of each key."""

    @property
    def last(self) -> str | None:
        """The last key, None if there is none."""

    @property
    def value_bytes(self) -> int:
        """How many bytes the values have that were read."""

_FoundValue: TypeAlias = tuple[bytes, int, int, bytes]  # (digest, size, expires, token)

@final
class Filter:
    """Patterns, in the gitignore syntax, that say which keys to include and which to leave out."""

    def __new__(cls, include: Sequence[str], exclude: Sequence[str]) -> Filter:
        """Parse both lists; without patterns to `include`, all keys are."""

    def excluded(self, keys: Sequence[str]) -> list[str]:
        """Return those of some keys that are left out; faster where keys of one directory follow each other."""

@final
class FoundValues:
    """Values that a scan found, ascending by key: those that are new, or that may have changed."""

    def __new__(cls) -> FoundValues:
        """Begin without values."""

    def add(self, key: str, digest: bytes, size: int, expires: int, token: bytes | None, known: bytes | None) -> None:
        """Append a value.

        Args:
            key: Its key, after those before.
            digest: Its BLAKE3.
            size: Its bytes.
            expires: When it expires, 0 for never.
            token: Its version token; None where that follows from digest and expiry. Either all values have one.
            known: The digest of the value that was known there, None for none.

        Raises:
            UsageError: A digest is not 32 bytes.
        """

    def __len__(self) -> int:
        """Return the number of values."""

    @staticmethod
    def merge(parts: Sequence[FoundValues]) -> FoundValues:
        """Return the values of all parts in order; no two of them have the same key.

        Raises:
            UsageError: Some have tokens of their own and others not, or there are 2^32 values.
        """

    def keys(self, start: int, stop: int) -> list[str]:
        """Return the keys of some values, by position."""

    @property
    def same(self) -> list[str]:
        """The keys whose value was known, with another token or expiry."""

    @property
    def changed(self) -> list[str]:
        """The keys where another value was known."""

    def find(self, keys: Sequence[str]) -> list[_FoundValue | None]:
        """Return the value of each of some keys, None where none was found.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def without(self, keys: Sequence[str]) -> FoundValues:
        """Return the values without those of some keys.

        Raises:
            UsageError: A key is not a str, or has no UTF-8 encoding.
        """

    def excluded(self, filter: Filter) -> list[str]:  # noqa: A002
        """Return the keys of those that a filter leaves out."""

    def add_times(self, times: Sequence[int | None]) -> None:
        """Say when the next values were last modified, None where that is not known; those not said are not known."""

@final
class Unread:
    """Keys of a listing whose values have to be read: neither has the listing, nor does their token prove them."""

    def __len__(self) -> int:
        """Return the number of keys."""

    def part(self, start: int, stop: int) -> tuple[list[str], list[bytes], list[bytes | None]]:
        """Return some keys by position, their listed tokens, and the digests that were known there, None for none."""

def stamp_found(
    sides: Sequence[tuple[FoundValues, Sequence[str], Sequence[int | None], int, int, bool]], now_ms: int
) -> list[tuple[Segment, tuple[int, int] | None]]:
    """Stamp what scans found, and return the changes of each side.

    A time that is known is exact. A key that several sides changed at an unknown time gets one stamp. An old value that
    all sides hold, none of which has a log, is a change of the first side for all of them. With each of the other sides
    comes the least and the greatest stamp of these changes.

    Args:
        sides: For each the values that were put, the keys that were deleted, when each of these was (empty: that is
            not known), the replica that makes the changes, the greatest stamp that it has seen, and whether it has a
            log: without one, a value of unknown age is old.
        now_ms: The wall clock.

    Raises:
        ClockError: A stamp would pass 64 bits.
        UsageError: A key is refused.
    """

@final
class Walk:
    """A walk along an inventory, which compares a listing with it.

    The caller supplies the pieces of each run in order, whenever one is needed; the base is the first run, and the
    newest patch the last.
    """

    def __new__(cls, lengths: Sequence[int]) -> Walk:
        """Begin at the first key of runs of so many pieces."""

    def needs(self) -> int | None:
        """Return a run whose next piece is needed to go on, None if there is none."""

    def supply(self, run: int, piece: Piece) -> None:
        """Take the next piece of a run.

        Raises:
            IndexDamagedError: Its keys do not come after those of the piece before it.
            UsageError: There is no such run.
        """

    @property
    def known(self) -> int:
        """How many known keys were passed."""

    def compare(self, page: Page, start: int) -> tuple[list[str], int]:
        """Compare the next page of a listing, from position `start` on, as far as the pieces at hand reach.

        Returns:
            Known keys that are gone, and up to which position the page was compared.

        Raises:
            UsageError: The keys do not strictly ascend over all pages.
        """

    def take(self) -> tuple[FoundValues, Unread]:
        """Return what is new or may have changed since the last call: values that the listing read, and the others."""

    def rest(self) -> list[str]:
        """Return the known keys behind the listing, as far as the pieces at hand reach."""

@final
class Merge:
    """A merge of runs of pieces into one, a piece at a time; the caller supplies pieces as for a `Walk`."""

    def __new__(
        cls,
        lengths: Sequence[int],
        piece_bytes: int,
        drops_gone: bool,
        start: str | None = None,
        stop: str | None = None,
    ) -> Merge:
        """Begin to merge.

        Args:
            lengths: The number of pieces of each run, the newest run last.
            piece_bytes: A piece is cut once it has so many bytes.
            drops_gone: Leave out the keys that are gone.
            start: The first key to take.
            stop: The key to stop before.
        """

    def needs(self) -> int | None:
        """Return a run whose next piece is needed to go on, None if there is none."""

    def supply(self, run: int, piece: Piece) -> None:
        """Take the next piece of a run.

        Raises:
            IndexDamagedError: Its keys do not come after those of the piece before it.
            UsageError: There is no such run.
        """

    @property
    def done(self) -> bool:
        """Whether all is merged."""

    def step(self) -> Piece | None:
        """Go on until a piece is complete, and return it; None if the next piece of a run is needed, or at the end.

        Raises:
            UsageError: A column passes 4 GiB.
        """

@final
class Correction:
    """The newest changes of a log held against an inventory; the caller supplies pieces as for a `Walk`."""

    def __new__(
        cls,
        lengths: Sequence[int],
        newest: Segment,
        held: dict[str, bytes | None],
        expired_ms: int,
        keeps_tokens: bool,
    ) -> Correction:
        """Begin to compare.

        Args:
            lengths: The number of pieces of each run of the inventory.
            newest: The newest change of each key.
            held: The keys of missing values, each with the digest of what is there instead, None for nothing.
            expired_ms: Values that expire up to then may be gone.
            keeps_tokens: Whether a token stays proof where the log names the value that it was taken from.

        Raises:
            UsageError: A digest is not 32 bytes.
        """

    def needs(self) -> int | None:
        """Return a run whose next piece is needed to go on, None if there is none."""

    def supply(self, run: int, piece: Piece) -> None:
        """Take the next piece of a run.

        Raises:
            IndexDamagedError: Its keys do not come after those of the piece before it.
            UsageError: There is no such run.
        """

    @property
    def done(self) -> bool:
        """Whether all was compared."""

    def step(self) -> None:
        """Go on until the next piece of a run is needed, or all was compared."""

    def finish(self) -> tuple[Piece, list[tuple[str, bytes]]]:
        """Return the patch that corrects the inventory, and key and digest of each value that may have expired.

        Raises:
            UsageError: It was finished before.
        """
