"""A storage without some of its keys, which belong to another storage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from kvsync.storages.batch import Batch
from kvsync.storages.contract import SKIPPED_MAX, Support, has_skipped
from kvsync.storages.wrapper import WrappedStorage
from kvsync.types import Skipped, Unreadable, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kvsync.storages.contract import Pages, Storage
    from kvsync.storages.hints import Hints, Wake

__all__ = ["PartialStorage"]

T = TypeVar("T")


def _none(_keys: Sequence[str]) -> Mapping[str, str]:
    return {}


class PartialStorage(WrappedStorage):
    """A storage that leaves some keys out: it lists and reads none of them, and refuses to write them.

    Args:
        inner: the storage.
        left_out: the keys, with the reason for each.
        others: returns which of some keys are left out, too, since they lead to the same place; with the reason.
    """

    def __init__(
        self, inner: Storage, left_out: Mapping[str, str], others: Callable[[Sequence[str]], Mapping[str, str]] = _none
    ) -> None:
        super().__init__(inner)
        self.left_out = left_out
        self._others = others
        self._seen: dict[str, str] = {}
        known = inner.capabilities
        supports = known.supports - {Support.COPY, Support.EXPIRY, Support.METADATA} | {Support.SKIPPED}
        self.capabilities = replace(known, supports=supports)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the last scan of `inner` skipped, and the keys left out that it found."""
        inner = self._complete.skipped if has_skipped(self.inner) else ()
        ours = [Skipped(*pair) for pair in sorted(self._seen.items())]
        return (*inner, *ours[:SKIPPED_MAX])

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Read; what is left out cannot be read."""
        out = self._out(keys)
        found = iter(super().read([key for key in keys if key not in out]))
        return [Unreadable(out[key]) if key in out else next(found) for key in keys]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write; refuse what is left out."""
        batch = Batch(keys, values, expect)
        return self._refusing(batch, lambda: super(PartialStorage, self).write(batch.keys, batch.values, batch.expect))

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete; refuse what is left out."""
        batch = Batch(keys, expect=expect)
        return self._refusing(batch, lambda: super(PartialStorage, self).delete(batch.keys, batch.expect))

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write from parts; refuse what is left out."""
        batch = Batch([key], expect=expect)
        return self._refusing(batch, lambda: super(PartialStorage, self).write_stream(key, parts, expect))

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Read in parts; what is left out cannot be read."""
        out = self._out([key])
        return Unreadable(out[key]) if out else super().read_stream(key)

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return tokens, an empty one for what is left out."""
        return self._of_others(keys, super().tokens, b"")

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return sizes, None for what is left out."""
        return self._of_others(keys, super().sizes, None)

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return times, None for what is left out."""
        return self._of_others(keys, super().modified_ms, None)

    def scan(self, splits: Sequence[str] = ()) -> Pages:
        """List everything that is not left out."""
        self._seen = {}
        for page in super().scan(splits):
            keys, tokens = page
            found = self._out(keys)
            self._seen |= found
            if found:
                kept = [pair for pair in zip(keys, tokens, strict=True) if pair[0] not in found]
                yield [key for key, _ in kept], [token for _, token in kept]
            else:
                yield page

    def hints(self, wake: Wake) -> Hints:
        """Notice changes of everything that is not left out: each run writes to the files of the other storage."""
        return super().hints(lambda key: None if key in self.left_out else wake(key))

    def _out(self, keys: Sequence[str]) -> dict[str, str]:
        """Return which of some keys are left out, and why."""
        named = {key: self.left_out[key] for key in keys if key in self.left_out}
        return {**self._others(keys), **named}

    def _refusing(self, batch: Batch, call: Callable[[], Written]) -> Written:
        for key, reason in self._out(batch.keys).items():
            batch.refuse(key, reason)
        batch.drop_refused()
        if not batch.keys:
            return batch.written([])
        written = call()
        for refusal in written.refused:
            batch.refuse(refusal.key, refusal.reason, changed=refusal.changed)
        return batch.written(written.tokens)

    def _of_others(self, keys: Sequence[str], call: Callable[[Sequence[str]], list[T]], missing: T) -> list[T]:
        out = self._out(keys)
        found = iter(call([key for key in keys if key not in out]))
        return [missing if key in out else next(found) for key in keys]
