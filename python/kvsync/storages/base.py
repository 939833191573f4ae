"""What a storage must be able to do: a small Protocol, and capabilities beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.types import (
        Capabilities,
        Expectation,
        Origin,
        Stored,
        Unreadable,
        Version,
        Written,
    )

__all__ = [
    "FOREIGN_MAX",
    "LARGE_BYTES",
    "ObjectMismatch",
    "Storage",
    "SupportsCopy",
    "SupportsExpiry",
    "SupportsForeign",
    "SupportsIdentity",
    "SupportsSizes",
    "SupportsStreaming",
    "SupportsTransaction",
    "TornRead",
    "has_copy",
    "has_expiry",
    "has_foreign",
    "has_host",
    "has_identity",
    "has_sizes",
    "has_streaming",
    "has_transaction",
]

RESERVED = ".kvsync"

LARGE_BYTES = 8 << 20
"""A value larger than this moves in parts between storages that can; all others move whole, in batches."""


FOREIGN_MAX = 100
"""So many names of entries that are no values are kept."""


class ObjectMismatch(Exception):  # noqa: N818 - an answer, not an error: the caller decides what it means
    """An index object is not at the expected version; nothing was written.

    Attributes:
        there: what is there instead, where somebody has looked since; else None.
    """

    there: Stored | None = None


class TornRead(Exception):  # noqa: N818 - an answer, too
    """Reading a value in parts came to no good end: it changed meanwhile, or cannot be read; the text says which."""


@runtime_checkable
class Storage(Protocol):
    """One key-value storage: values by key, and a few index objects beside them.

    Keys are `str`, any valid Unicode without lone surrogates; values are `bytes` and come back as they went
    in. Index objects live apart from values (below `.kvsync/` or in a table of their own), are small or
    medium-sized, and change by compare-and-swap. Every method may raise `StorageError`; none leaves a
    value or an object half-written.
    """

    name: str
    """Where it is, for people and logs; never with a secret."""

    capabilities: Capabilities

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None where there is none."""
        ...

    def write(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write `values[i]` at `keys[i]`.

        With `expect`, a key is written only where its version token is `expect[i]` (None: the key is
        absent). Keys that are not written are refused one by one; the others are durable on return.
        """
        ...

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`; one that is absent already counts as deleted."""
        ...

    def scan(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield every key with its version token, in batches, ascending by UTF-8 bytes over all batches.

        Complete, or an error: a listing that may be cut off must raise.
        """
        ...

    def load(self, name: str) -> Stored | None:
        """Return an index object, or None."""
        ...

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an index object and return its new version.

        Raises:
            ObjectMismatch: it is not as expected; nothing was written.
        """
        ...

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove index objects; with `ANY`, absent ones are passed over. With a version, `names` is one name.

        Raises:
            ObjectMismatch: it is not as expected, or absent; nothing was removed.
        """
        ...

    def objects(self) -> list[str]:
        """Return the names of all index objects, ascending."""
        ...

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when each value was last modified, wall-clock milliseconds; None where not known."""
        ...

    def close(self) -> None:
        """Release what this storage opened itself; calling it twice is fine."""
        ...


@runtime_checkable
class SupportsIdentity(Protocol):
    """A storage that can tell whether another handle is one of the same storage."""

    identity: str
    """Equal for two handles of one storage, whatever they were called by."""


@runtime_checkable
class SupportsHost(Protocol):
    """A storage on a server that keeps conditions for all of its storages there, or for none."""

    host: str
    """Equal for all of these."""


@runtime_checkable
class SupportsForeign(Protocol):
    """A storage in which entries may lie that are no values, and that a scan passes over."""

    @property
    def foreign(self) -> tuple[str, ...]:
        """What the last scan passed over, by name; the first `FOREIGN_MAX`."""
        ...


@runtime_checkable
class SupportsTransaction(Protocol):
    """A storage that commits values and index objects as one."""

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside is committed as one on leaving, or undone on an exception."""
        ...


@runtime_checkable
class SupportsExpiry(Storage, Protocol):
    """A storage that takes a value away by itself once its time has come (`Capabilities.expiry`).

    From then on the key is absent for every method. The version token of a value that expires differs from
    that of the same value with another time, or with none. `write` leaves a value that stays for ever.
    """

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Return when each value expires, wall-clock milliseconds; 0 where never, or where there is none."""
        ...

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write as `write` does, each value until `expires[i]`, wall-clock milliseconds (0: for ever).

        Always returns tokens. A time that has passed already leaves the key absent.
        """
        ...


@runtime_checkable
class SupportsSizes(Storage, Protocol):
    """A storage that tells how large values are, so that only as many are read at a time as memory is meant for."""

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the bytes of each value, without reading it; None where it is absent or not known."""
        ...


@runtime_checkable
class SupportsStreaming(SupportsSizes, Protocol):
    """A storage that also moves a value in parts, so that a large one is never whole in memory."""

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Return the parts of a value, in order, or None where there is none.

        Where the iterator has an attribute `version`, that is the version token of just this value.

        Raises:
            TornRead: from the iterator, where the value changed meanwhile, or cannot be read any further.
        """
        ...

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write a value from its parts, as `write` of one key would; `expect` has one token, or is None.

        Where `parts` raises, nothing is written and the exception passes through.
        """
        ...


@runtime_checkable
class SupportsCopy(SupportsStreaming, Protocol):
    """A storage whose server copies large values between storages, so that their bytes do not pass through here."""

    def origin(self, key: str) -> Origin | None:
        """Return where a value is to be copied from, or None where the server copies none; nothing is asked of it."""
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
        """Have the value at `origin` copied to `key`, as `write` of one key would; `expect` has one token, or is None.

        Only a value whose version token is `version`, of `size` bytes: never may another one appear at `key`. None
        where that cannot be had, or something is not as expected: the value is to be moved in parts, which finds out
        what. `meanwhile` is called now and again from this thread; what it raises passes through.
        """
        ...


# `isinstance` of a protocol takes 30 microseconds in Python 3.11, half of a run that has nothing to do.


def has_identity(storage: object) -> TypeGuard[SupportsIdentity]:
    """Whether `storage` can tell other handles of itself."""
    return hasattr(storage, "identity")


def has_host(storage: object) -> TypeGuard[SupportsHost]:
    """Whether `storage` can tell what other storages its server has."""
    return hasattr(storage, "host")


def has_foreign(storage: object) -> TypeGuard[SupportsForeign]:
    """Whether a scan of `storage` may pass over entries that are no values."""
    return hasattr(storage, "foreign")


def has_transaction(storage: object) -> TypeGuard[SupportsTransaction]:
    """Whether `storage` commits values and index objects as one."""
    return hasattr(storage, "transaction")


def has_expiry(storage: Storage) -> TypeGuard[SupportsExpiry]:
    """Whether `storage` keeps the time at which a value expires."""
    return storage.capabilities.expiry


def has_sizes(storage: object) -> TypeGuard[SupportsSizes]:
    """Whether `storage` tells sizes without reading."""
    return hasattr(storage, "sizes")


def has_copy(storage: object) -> TypeGuard[SupportsCopy]:
    """Whether the server of `storage` may copy values."""
    return hasattr(storage, "origin") and hasattr(storage, "copy")


def has_streaming(storage: object) -> TypeGuard[SupportsStreaming]:
    """Whether `storage` moves values in parts."""
    return hasattr(storage, "write_stream")
