"""The entries of a mapping, each on its own: what one of them is or raises concerns that key alone.

A plain `dict` takes shortcuts, since a dict of a million keys is ordinary: no Python call for each key.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvsync.errors import UsageError
from kvsync.native import check_key
from kvsync.storages.contract import RESERVED, SKIPPED_MAX
from kvsync.types import Skipped, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence

    from kvsync.storages.batch import Batch

__all__ = ["PREFIX", "Entries", "Listing"]

PREFIX = RESERVED + "/"
PREFIX_END = RESERVED + "0"  # "0" follows "/"

CHECK_COUNT = 10_000
"""Keys that are looked at as one text."""

_ABSENT: Final = object()


class Listing(NamedTuple):
    """What a mapping has: keys of values, ascending; names of index objects, ascending; and what cannot be a key."""

    keys: list[str]
    objects: list[str]
    skipped: tuple[Skipped, ...]


class Entries:
    """The entries of a mapping."""

    def __init__(self, mapping: MutableMapping[str, bytes]) -> None:
        self._mapping = mapping
        self._plain = type(mapping) is dict

    def listing(self) -> Listing:
        """Return what the mapping has.

        Raises:
            Exception: the mapping cannot be listed.
        """
        listed: list[Any] = list(self._mapping)
        are_text = set(map(type, listed)) <= {str}
        keys: list[str] = sorted(listed if are_text else [key for key in listed if isinstance(key, str)])
        start, stop = bisect_left(keys, PREFIX), bisect_left(keys, PREFIX_END)
        objects = [key[len(PREFIX) :] for key in keys[start:stop]]
        del keys[start:stop]
        impossible = _impossible(keys)
        if impossible:
            keys = [key for key in keys if key not in impossible]
        skipped = [*impossible.values(), *([] if are_text else islice(_strange(listed), SKIPPED_MAX))]
        return Listing(keys, objects, tuple(skipped[:SKIPPED_MAX]))

    def get(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`; None only where nothing is."""
        if self._plain:
            found: list[Any] = list(map(self._mapping.get, keys))
            kinds = set(map(type, found))
            if kinds == {bytes} or (kinds <= {bytes, type(None)} and not self._hold_none(keys, found)):
                return found
        return [self._one(key) for key in keys]

    def put(self, batch: Batch) -> None:
        """Write a batch; refuse the keys that the mapping refuses, or does not keep as they are."""
        for key, value in zip(batch.keys, batch.values, strict=True):
            try:
                self._mapping[key] = value
            except Exception as error:  # noqa: BLE001 - a mapping may raise anything
                batch.refuse(key, f"the mapping refused it: {error!r:.500}")
        if not self._plain:
            for key, value, kept in zip(batch.keys, batch.values, self.get(batch.keys), strict=True):
                if kept != value:
                    batch.refuse(key, "the mapping did not keep the value as it is")

    def drop(self, batch: Batch) -> None:
        """Delete the keys of a batch; refuse those that the mapping refuses to delete, or still has."""
        for key in batch.keys:
            try:
                del self._mapping[key]
            except KeyError:
                continue
            except Exception as error:  # noqa: BLE001 - a mapping may raise anything
                batch.refuse(key, f"the mapping refused to delete it: {error!r:.500}")
        if not self._plain:
            for key, kept in zip(batch.keys, self.get(batch.keys), strict=True):
                if kept is not None:
                    batch.refuse(key, "the mapping still has it after it was deleted")

    def _hold_none(self, keys: Sequence[str], found: list[Any]) -> bool:
        """Whether None is the value of a key, and does not mean that nothing is there."""
        return any(value is None and key in self._mapping for key, value in zip(keys, found, strict=True))

    def _one(self, key: str) -> bytes | Unreadable | None:
        try:
            value: object = self._mapping.get(key, _ABSENT)
        except Exception as error:  # noqa: BLE001 - a mapping may raise anything
            return Unreadable(f"the mapping could not read it: {error!r:.500}")
        if value is _ABSENT:
            return None
        return value if isinstance(value, bytes) else Unreadable(f"the mapping holds {_kind(value)}, not bytes")


def _impossible(keys: list[str]) -> dict[str, Skipped]:
    """Return what cannot be the key of a value, although it is text."""
    found: dict[str, Skipped] = {}
    for start in range(0, len(keys), CHECK_COUNT):
        some = keys[start : start + CHECK_COUNT]
        text = "\n".join(some)
        # A reserved name in ASCII is spelt like that; only other scripts can disguise it.
        if not text.isascii() or RESERVED[1:] in text.lower():
            found |= {
                key: Skipped(repr(key)[1:-1][:400], why, harmless=False)
                for key in some
                if (why := _why_impossible(key))
            }
    return found


def _why_impossible(key: str) -> str:
    try:
        check_key(key)
    except UnicodeEncodeError:
        return "it has a lone surrogate, so it is not valid text"
    except UsageError as error:
        return error.message
    return ""


def _strange(listed: list[object]) -> Iterator[Skipped]:
    for key in listed:
        if not isinstance(key, str):
            yield Skipped(f"{key!r:.200}", f"a key is a str, not {_kind(key)}", harmless=False)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"
