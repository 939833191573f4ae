"""The base of storages that wrap another one: a single method sees every call."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

from kvsync.storages.contract import (
    SupportsCopy,
    SupportsDryProbe,
    SupportsExpiry,
    SupportsFiles,
    SupportsHost,
    SupportsIdentity,
    SupportsNesting,
    SupportsRanges,
    SupportsSkipped,
    SupportsSplits,
    SupportsTokens,
    SupportsTransaction,
)
from kvsync.storages.hints import SupportsHints
from kvsync.storages.journal import SupportsJournal
from kvsync.storages.limits import SupportsLimits
from kvsync.storages.metadata import SupportsMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from kvsync.storages.contract import Capabilities, Pages, Storage
    from kvsync.storages.hints import Hints, Wake
    from kvsync.storages.journal import Journal
    from kvsync.types import Expectation, Metadata, Origin, Skipped, Stored, Unreadable, Version, Written

__all__ = ["WrappedStorage", "innermost"]

P = ParamSpec("P")
T = TypeVar("T")


class _Complete(
    SupportsTransaction,
    SupportsExpiry,
    SupportsTokens,
    SupportsCopy,
    SupportsMetadata,
    SupportsIdentity,
    SupportsNesting,
    SupportsFiles,
    SupportsHost,
    SupportsSkipped,
    SupportsSplits,
    SupportsRanges,
    SupportsDryProbe,
    SupportsLimits,
    SupportsHints,
    SupportsJournal,
    Protocol,
):
    """A storage with every optional method."""


class WrappedStorage:
    """A storage that forwards every call to another one, `inner`; subclasses override `around`.

    It has every optional method. Its capabilities say which of them work: they are those of `inner` at that moment,
    since some storages learn from their server what they can do, unless they were set here.

    `begin` and `commit` are the operations of a transaction. `origin`, `contains`, `files`, `unmade`, `dry_probe`,
    `limits`, `hints`, `close` and the attributes are no operations: they send no request, are asked outside of a run,
    or happen in a killed process, too.
    """

    _capabilities: Capabilities | None = None

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.name = inner.name

    @property
    def capabilities(self) -> Capabilities:
        """What this storage can do."""
        return self._capabilities or self.inner.capabilities

    @capabilities.setter
    def capabilities(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities

    @property
    def _complete(self) -> _Complete:
        return cast("_Complete", self.inner)

    # Not a decorator that makes a closure for each call: even a small run makes twenty calls.
    def around(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002
        """Make a call of the protocol's `method`."""
        return call(*args, **kwargs)

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Forward `Storage.read`."""
        return self.around("read", self.inner.read, keys)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Forward `Storage.write`."""
        return self.around("write", self.inner.write, keys, values, expect)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Forward `Storage.delete`."""
        return self.around("delete", self.inner.delete, keys, expect)

    def scan(self, splits: Sequence[str] = ()) -> Pages:
        """Forward `Storage.scan`, or `SupportsSplits.scan`: one operation, made when the first batch is requested."""
        yield from self.around("scan", self._complete.scan, splits) if splits else self.around("scan", self.inner.scan)

    def load(self, name: str) -> Stored | None:
        """Forward `Storage.load`."""
        return self.around("load", self.inner.load, name)

    def load_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """Forward `SupportsRanges.load_ranges`."""
        return self.around("load_ranges", self._complete.load_ranges, name, ranges)

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Forward `Storage.store`."""
        return self.around("store", self.inner.store, name, data, expect)

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Forward `Storage.remove`."""
        return self.around("remove", self.inner.remove, names, expect)

    def objects(self) -> list[str]:
        """Forward `Storage.objects`."""
        return self.around("objects", self.inner.objects)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Forward `Storage.modified_ms`."""
        return self.around("modified_ms", self.inner.modified_ms, keys)

    def close(self) -> None:
        """Close `inner`."""
        self.inner.close()

    @property
    def identity(self) -> str:
        """The identity of `inner`."""
        return self._complete.identity

    def contains(self, other: Storage) -> bool:
        """Forward `SupportsNesting.contains`; of `other`, what its wrappers wrap counts."""
        return self._complete.contains(innermost(other))

    def files(self) -> list[str]:
        """Forward `SupportsFiles.files`."""
        return self._complete.files()

    @property
    def host(self) -> str:
        """The host of `inner`."""
        return self._complete.host

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the last scan of `inner` skipped."""
        return self._complete.skipped

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Forward `SupportsTransaction.transaction`."""
        with contextlib.ExitStack() as outside:
            # Leaving `stack` commits. What fails before that fails inside, and so is undone.
            stack = contextlib.ExitStack()
            outside.push(stack)
            self.around("begin", lambda: stack.enter_context(self._complete.transaction()))
            yield
            self.around("commit", stack.close)

    def expiries(self, keys: Sequence[str]) -> list[int]:
        """Forward `SupportsExpiry.expiries`."""
        return self.around("expiries", self._complete.expiries, keys)

    def write_expiring(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expires: Sequence[int],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Forward `SupportsExpiry.write_expiring`."""
        return self.around("write_expiring", self._complete.write_expiring, keys, values, expires, expect)

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Forward `SupportsTokens.tokens`."""
        return self.around("tokens", self._complete.tokens, keys)

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Forward `SupportsSizes.sizes`."""
        return self.around("sizes", self._complete.sizes, keys)

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Forward `SupportsStreaming.read_stream`."""
        return self.around("read_stream", self._complete.read_stream, key)

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Forward `SupportsStreaming.write_stream`."""
        return self.around("write_stream", self._complete.write_stream, key, parts, expect)

    def origin(self, key: str) -> Origin | None:
        """Forward `SupportsCopy.origin`."""
        return self._complete.origin(key)

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
        """Forward `SupportsCopy.copy`."""
        return self.around("copy", self._complete.copy, key, origin, version, size, expect, meanwhile=meanwhile)

    def metadata(self, keys: Sequence[str]) -> list[Metadata | None]:
        """Forward `SupportsMetadata.metadata`."""
        return self.around("metadata", self._complete.metadata, keys)

    def write_with_metadata(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        metadata: Sequence[Metadata | None],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Forward `SupportsMetadata.write_with_metadata`."""
        return self.around("write_with_metadata", self._complete.write_with_metadata, keys, values, metadata, expect)

    def write_stream_with_metadata(
        self, key: str, parts: Iterator[bytes], metadata: Metadata | None, expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Forward `SupportsMetadata.write_stream_with_metadata`."""
        write = self._complete.write_stream_with_metadata
        return self.around("write_stream_with_metadata", write, key, parts, metadata, expect)

    def unmade(self) -> str:
        """Forward `SupportsDryProbe.unmade`."""
        return self._complete.unmade()

    def dry_probe(self) -> AbstractContextManager[str]:
        """Forward `SupportsDryProbe.dry_probe`."""
        return self._complete.dry_probe()

    def limits(self) -> list[str]:
        """Forward `SupportsLimits.limits`."""
        return self._complete.limits()

    def hints(self, wake: Wake) -> Hints:
        """Forward `SupportsHints.hints`."""
        return self._complete.hints(wake)

    def track(self) -> bool:
        """Forward `SupportsJournal.track`."""
        return self.around("track", self._complete.track)

    def untrack(self) -> bool:
        """Forward `SupportsJournal.untrack`."""
        return self.around("untrack", self._complete.untrack)

    def journal(self, count_max: int) -> Journal | None:
        """Forward `SupportsJournal.journal`."""
        return self.around("journal", self._complete.journal, count_max)

    def settle(self, position: bytes, scope: bytes = b"") -> None:
        """Forward `SupportsJournal.settle`."""
        self.around("settle", self._complete.settle, position, scope)

    def listed(self, keys: Sequence[str]) -> Pages:
        """Forward `SupportsJournal.listed`: one operation, made when the first batch is requested."""
        yield from self.around("listed", self._complete.listed, keys)


def innermost(storage: Storage) -> Storage:
    """Return the storage that all wrappers around `storage` wrap.

    Only a `WrappedStorage` is a wrapper, whatever attributes others have.
    """
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    return storage
