"""The storage contract: what every storage does, and what it declares that it does beyond that.

`Storage` is required. The `Supports*` protocols are optional: a storage has one of them only if its `capabilities`
declare it. Attribute names are never taken as a declaration, since `host`, `copy` or `sizes` are ordinary words.
`kvsync.storages.capabilities` has what they declare.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeGuard

from kvsync.native import Page
from kvsync.storages.capabilities import Capabilities, OpaqueTokens, Support, Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from kvsync.types import Expectation, Origin, Skipped, Stored, Unreadable, Version, Written

__all__ = [
    "LARGE_BYTES",
    "RESERVED",
    "SKIPPED_MAX",
    "Capabilities",
    "ObjectMismatch",
    "OpaqueTokens",
    "Page",
    "Pages",
    "Storage",
    "Support",
    "SupportsCopy",
    "SupportsDryProbe",
    "SupportsExpiry",
    "SupportsFiles",
    "SupportsHost",
    "SupportsIdentity",
    "SupportsNesting",
    "SupportsRanges",
    "SupportsSizes",
    "SupportsSkipped",
    "SupportsSplits",
    "SupportsStreaming",
    "SupportsTokens",
    "SupportsTransaction",
    "Tier",
    "TornRead",
    "has_copy",
    "has_dry_probe",
    "has_expiry",
    "has_files",
    "has_host",
    "has_identity",
    "has_nesting",
    "has_ranges",
    "has_sizes",
    "has_skipped",
    "has_splits",
    "has_streaming",
    "has_tokens",
    "has_transaction",
]

Pages: TypeAlias = Iterator[Page | tuple[list[str], list[bytes]]]
"""A listing: pages of keys, each with its version token, or with what was read of its value."""

RESERVED = ".kvsync"
"""Keys below this name belong to the index."""

LARGE_BYTES = 8 << 20
"""Between storages that can, a value larger than this moves in parts; all others move whole, in batches."""

SKIPPED_MAX = 100
"""`SupportsSkipped.skipped` lists at most this many harmless entries, and as many others."""


class ObjectMismatch(Exception):  # noqa: N818 - an answer, not an error: the caller decides what it means
    """An index object does not have the expected version; nothing was written."""


class TornRead(Exception):  # noqa: N818 - an answer, too
    """A value changed while it was read in parts, or its rest cannot be read; the text says which."""


class Storage(Protocol):
    """One key-value storage: values by key, and a few index objects beside them.

    Keys are `str`, any valid Unicode without lone surrogates. Values are `bytes` and come back unchanged. Index objects
    are kept apart from values (below `.kvsync/` or in a table of their own), are small or medium-sized, and change by
    compare-and-swap. Every method may raise `StorageError`; none leaves a value or an object half-written.
    """

    name: str
    """What people and logs call it; never contains a secret."""

    capabilities: Capabilities
    """What it declares about itself; a storage that learns more from its server replaces them."""

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key where nothing is.

        A value that cannot be read now is `Unreadable`, and so is anything there that is no value: None would make it
        a delete.
        """
        ...

    def write(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write `values[i]` at `keys[i]`.

        With `expect`, write a key only where its version token is `expect[i]` (None: the key is absent). A key that
        cannot be written is refused by itself; all others are durable on return. A key where the storage did not keep
        what it was given is refused, too. What is `Unreadable` is never overwritten on condition.
        """
        ...

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`; a key that is already absent counts as deleted."""
        ...

    def scan(self) -> Pages:
        """Yield every key with its version token, in pages, in ascending UTF-8 byte order over all pages.

        A page is a pair of lists, keys and tokens. A storage whose tokens are the BLAKE3 of values yields
        `Page(keys, values)` instead: so kvsync takes the digests, knows the sizes, and reads no value again.

        Yield all keys or raise: never stop early without an error. A key whose value cannot be read is yielded, too,
        with an empty token, or an `Unreadable` among the values; `read` then tells why. One bad entry never raises.
        """
        ...

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None."""
        ...

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
        """
        ...

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects. With `ANY`, skip absent ones; with a version, `names` is one name.

        Raises:
            ObjectMismatch: it is absent or does not have the expected version; nothing was removed.
        """
        ...

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending."""
        ...

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified, wall-clock milliseconds; None if that is not known.

        A scan takes this for the exact time of a change, and decides conflicts by it. Never return a guess.
        """
        ...

    def close(self) -> None:
        """Release what this storage opened itself; closing twice is allowed."""
        ...


class SupportsIdentity(Storage, Protocol):
    """A storage that recognises another handle of itself."""

    identity: str
    """Equal for any two handles of one storage, however they were opened."""


class SupportsNesting(Storage, Protocol):
    """A storage within which there can be another one: a folder, or what begins with a prefix."""

    def contains(self, other: Storage) -> bool:
        """Return whether `other`, of any kind, is within this storage, so that a run of both would sync itself.

        Recognise it however the two are named. Ask a server only if nothing else tells.
        """
        ...


class SupportsFiles(Storage, Protocol):
    """A storage that is kept in files of this machine, which may be within a folder that it is synced with."""

    def files(self) -> list[str]:
        """Return the paths of its files, absolute and without symbolic links, whether or not they exist."""
        ...


class SupportsHost(Storage, Protocol):
    """A storage on a server that keeps conditions for all storages of one host, or for none of them."""

    host: str
    """Equal for all of these storages."""


class SupportsSkipped(Storage, Protocol):
    """A storage that may contain entries other than values, or whose names cannot be keys; a scan skips them."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The entries that the last scan skipped: the first `SKIPPED_MAX` harmless ones, and as many others."""
        ...


class SupportsSplits(Storage, Protocol):
    """A storage that is listed faster by several requests at a time, if it is told where to begin them.

    Several threads may call `load`.
    """

    def scan(self, splits: Sequence[str] = ()) -> Pages:
        """Scan as `Storage.scan` does.

        `splits` are some keys, ascending, which had about as many keys between one and the next when they were last
        listed; use as many of them as there are to be ranges. What is listed does not depend on them: any of them may
        be gone, and there may be keys before the first and after the last one.
        """
        ...


class SupportsTransaction(Storage, Protocol):
    """A storage that commits values and index objects atomically."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commit everything done inside atomically on leaving, or undo it on an exception."""
        ...


class SupportsExpiry(Storage, Protocol):
    """A storage that removes a value by itself when it expires.

    From then on the key is absent for every method. The version token of a value depends on when it expires. `write`
    writes values that never expire.
    """

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 if never, or if the key is absent."""
        ...

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write as `write` does; `values[i]` expires at `expires[i]`, wall-clock milliseconds (0: never).

        Always return tokens. A time in the past leaves the key absent.
        """
        ...


class SupportsTokens(Storage, Protocol):
    """A storage with `OpaqueTokens` that returns the version tokens of single keys, without listing all of them."""

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the current version token of each key, as `scan` lists it, without reading the value.

        Return None where nothing is, and an empty token where something is that has none: no condition is met by that.
        """
        ...


class SupportsRanges(Storage, Protocol):
    """A storage that reads parts of an index object without the rest, so that a large one is not read as a whole."""

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Return the bytes of each range of an index object, given as (offset, length); None where it is absent.

        The ranges ascend and do not overlap; each has at least one byte, and is cut at the end of the object. The
        object was stored once, and never changes.
        """
        ...


class SupportsSizes(Storage, Protocol):
    """A storage that reports the sizes of values, so that a batch of reads fits into memory."""

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the size of each value in bytes, without reading it; None if it is absent or not known."""
        ...


class SupportsStreaming(SupportsSizes, Protocol):
    """A storage that also moves a value in parts, so that a large one is never whole in memory."""

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Return the parts of a value, in order, or None if the key is absent.

        If the iterator has an attribute `version`, it is the version token of exactly this value.

        Raises:
            TornRead: from the iterator: the value changed meanwhile, or its rest cannot be read.
        """
        ...

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write a value from its parts, as `write` of one key does; `expect` has one token, or is None.

        If `parts` raises, nothing is written and the exception propagates.
        """
        ...


class SupportsCopy(SupportsStreaming, Protocol):
    """A storage whose server copies large values between storages, so that their bytes do not pass through here."""

    def origin(self, key: str) -> Origin | None:
        """Return where to copy a value from, or None if the server cannot copy it; send no request."""
        ...

    def copy(
        self,
        key: str,
        origin: Origin,
        version: bytes,
        size: int,
        expect: Sequence[bytes | None] | None = None,
        *,
        meanwhile: Callable[[], None],
    ) -> Written | None:
        """Have the server copy the value at `origin` to `key`, as `write` of one key does; `expect` has one token.

        Copy only the value whose version token is `version`, of `size` bytes: no other value may ever appear at `key`.
        Return None if that is not possible or something is not as expected; the caller then moves the value in parts,
        which reports what is wrong. `meanwhile` is called now and then from this thread; its exceptions propagate.
        """
        ...


class SupportsDryProbe(Storage, Protocol):
    """A storage whose first write creates something that stays: a table, a directory, a bucket."""

    def unmade(self) -> str:
        """Return what does not exist yet and the first write creates, in words for people; empty if it exists.

        A misspelt name shows here, so that a run refuses it instead of taking it for an empty storage.
        """
        ...

    def dry_probe(self) -> AbstractContextManager[str]:
        """Yield an empty text: index objects can be written inside, and everything created for them is undone.

        If that is not possible, yield what the first write creates, in words for people; then write nothing.
        """
        ...


# Run about fifty times in a sync: a look-up of a member in its enum would take most of their time.
_TRANSACTION, _EXPIRY, _SIZES = Support.TRANSACTION, Support.EXPIRY, Support.SIZES
_STREAMING, _COPY, _IDENTITY = Support.STREAMING, Support.COPY, Support.IDENTITY
_NESTING, _FILES, _DRY_PROBE = Support.NESTING, Support.FILES, Support.DRY_PROBE


def has_transaction(storage: Storage) -> TypeGuard[SupportsTransaction]:
    """Whether `storage` commits values and index objects atomically."""
    return _TRANSACTION in storage.capabilities.supports


def has_expiry(storage: Storage) -> TypeGuard[SupportsExpiry]:
    """Whether `storage` keeps the time at which a value expires."""
    return _EXPIRY in storage.capabilities.supports


def has_tokens(storage: Storage) -> TypeGuard[SupportsTokens]:
    """Whether `storage` returns the version tokens of single keys."""
    return Support.TOKENS in storage.capabilities.supports


def has_sizes(storage: Storage) -> TypeGuard[SupportsSizes]:
    """Whether `storage` reports sizes without reading values."""
    return _SIZES in storage.capabilities.supports


def has_streaming(storage: Storage) -> TypeGuard[SupportsStreaming]:
    """Whether `storage` moves values in parts."""
    return _STREAMING in storage.capabilities.supports


def has_copy(storage: Storage) -> TypeGuard[SupportsCopy]:
    """Whether the server of `storage` may copy values."""
    return _COPY in storage.capabilities.supports


def has_identity(storage: Storage) -> TypeGuard[SupportsIdentity]:
    """Whether `storage` recognises other handles of itself."""
    return _IDENTITY in storage.capabilities.supports


def has_nesting(storage: Storage) -> TypeGuard[SupportsNesting]:
    """Whether another storage can be within `storage`."""
    return _NESTING in storage.capabilities.supports


def has_files(storage: Storage) -> TypeGuard[SupportsFiles]:
    """Whether `storage` is kept in files."""
    return _FILES in storage.capabilities.supports


def has_host(storage: Storage) -> TypeGuard[SupportsHost]:
    """Whether `storage` knows which other storages share its server."""
    return Support.HOST in storage.capabilities.supports


def has_ranges(storage: Storage) -> TypeGuard[SupportsRanges]:
    """Whether `storage` reads parts of index objects."""
    return Support.RANGES in storage.capabilities.supports


def has_skipped(storage: Storage) -> TypeGuard[SupportsSkipped]:
    """Whether a scan of `storage` may skip entries that are not values."""
    return Support.SKIPPED in storage.capabilities.supports


def has_splits(storage: Storage) -> TypeGuard[SupportsSplits]:
    """Whether a scan of `storage` is faster if it is told some keys to begin at."""
    return Support.SPLITS in storage.capabilities.supports


def has_dry_probe(storage: Storage) -> TypeGuard[SupportsDryProbe]:
    """Whether `storage` can be probed so that nothing of it stays."""
    return _DRY_PROBE in storage.capabilities.supports
