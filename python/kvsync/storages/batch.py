"""One call's keys: refuse some, do the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kvsync.native import digest_values
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from kvsync.types import Unreadable

__all__ = ["NOT_EXPECTED", "Batch"]

T = TypeVar("T")

NOT_EXPECTED = "its value is not the expected one"


class Batch:
    """The keys of one call of `write` or `delete`, some of which an adapter refuses.

    `keys`, `values`, `expires` and `expect` are the call's arguments, parallel, and `drop_refused` takes out of them
    what has been refused. A column that the call does not have stays empty, or None.

    >>> batch = Batch(["a", "b", "c"], [b"1", b"2", b"3"])
    >>> batch.refuse("b", "it is reserved")
    >>> batch.drop_refused()
    >>> batch.keys, batch.values
    (['a', 'c'], [b'1', b'3'])
    >>> batch.written([b"token 1", b"token 3"]).tokens
    (b'token 1', None, b'token 3')
    """

    __slots__ = ("_call_keys", "expect", "expires", "keys", "refused", "values")

    def __init__(
        self,
        keys: Sequence[str],
        values: Sequence[bytes] = (),
        expect: Sequence[bytes | None] | None = None,
        expires: Sequence[int] = (),
    ) -> None:
        self.keys = keys
        self.values = values
        self.expect = expect
        self.expires = expires
        self.refused: dict[str, Refusal] = {}
        self._call_keys = keys

    def refuse(self, key: str, reason: str, *, changed: bool = False) -> None:
        """Refuse a key; the first reason counts. `changed`: its value is not the expected one."""
        self.refused.setdefault(key, Refusal(key, reason, changed))

    def refuse_changed(self, key: str) -> None:
        """Refuse a key whose value is not the expected one."""
        self.refuse(key, NOT_EXPECTED, changed=True)

    def compare(self, tokens: Sequence[bytes | None], *, deletes: bool = False) -> None:
        """Refuse the keys whose token (None: absent) is not the expected one; to delete, being absent is enough.

        An empty token stands for what is not known: it is never the expected one.
        """
        assert self.expect is not None  # noqa: S101 - there is nothing to compare with otherwise
        for key, wanted, token in zip(self.keys, self.expect, tokens, strict=True):
            if (token != wanted or token == b"") and not (deletes and token is None):
                self.refuse_changed(key)

    def compare_values(
        self, read: Callable[[Sequence[str]], Sequence[bytes | Unreadable | None]], *, deletes: bool = False
    ) -> None:
        """Refuse the keys whose value, as `read` returns it, does not have the expected BLAKE3, and take them out.

        Call nothing if the call has no conditions.
        """
        if self.expect is None:
            return
        values = read(self.keys)
        digests = iter(digest_values([value for value in values if isinstance(value, bytes)]))
        tokens = [None if value is None else next(digests) if isinstance(value, bytes) else b"" for value in values]
        self.compare(tokens, deletes=deletes)
        self.drop_refused()

    def drop_refused(self) -> None:
        """Take the refused keys out of `keys`, `values`, `expires` and `expect`."""
        self.drop(self.refused)

    def drop(self, keys: Collection[str]) -> None:
        """Take keys out of the columns; those that are not refused count as done."""
        if not keys:
            return
        kept = [position for position, key in enumerate(self.keys) if key not in keys]
        self.keys = [self.keys[position] for position in kept]
        self.values = [self.values[position] for position in kept] if self.values else ()
        self.expires = [self.expires[position] for position in kept] if self.expires else ()
        self.expect = [self.expect[position] for position in kept] if self.expect is not None else None

    def spread(self, found: Sequence[T], missing: T) -> list[T]:
        """Return what was found at `keys`, in the order of the call's keys, with `missing` for the others."""
        if self.keys is self._call_keys:
            return list(found)
        by_key = dict(zip(self.keys, found, strict=True))
        return [by_key.get(key, missing) for key in self._call_keys]

    def written(self, tokens: Sequence[bytes | None] | None = None) -> Written:
        """Return the outcome of the call; `tokens` are those of `keys`, where the storage has cheap ones."""
        refused: tuple[Refusal, ...] = ()
        if self.refused:
            refused = tuple(self.refused[key] for key in dict.fromkeys(self._call_keys) if key in self.refused)
        if tokens is None:
            return Written(refused)
        spread = self.spread(tokens, None)
        if refused:
            spread = [
                None if key in self.refused else token for key, token in zip(self._call_keys, spread, strict=True)
            ]
        return Written(refused, tuple(spread))
