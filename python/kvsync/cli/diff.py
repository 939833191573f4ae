"""`kvsync plan --diff KEY`: what would become of one value, line by line."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from kvsync.cli.output import counted
from kvsync.digesting import Digested, digests
from kvsync.native import digest_values
from kvsync.storages.url import redact
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.planning import Plan
    from kvsync.storages.contract import Storage
    from kvsync.types import Delete, Put

__all__ = ["Diff", "diff_of"]

TEXT_BYTES_MAX = 1 << 20
"""Of larger values only size and digest are shown."""

DIGITS = 16


class Held(NamedTuple):
    """What a side holds at a key.

    Attributes:
        name: of the storage.
        found: size and digest; None where nothing is, or why it cannot be read.
        text: its lines, where it is a text that is not too large.
    """

    name: str
    found: Digested | Unreadable | None
    text: Sequence[str] | None

    def fields(self) -> dict[str, object] | None:
        """Return size and digest for programs."""
        if isinstance(self.found, Unreadable):
            return {"unreadable": self.found.reason}
        return None if self.found is None else {"size": self.found.size, "digest": self.found.digest.hex()}

    def words(self) -> str:
        """Return size and digest for people."""
        if isinstance(self.found, Unreadable):
            return f"cannot be read: {self.found.reason}"
        if self.found is None:
            return "nothing"
        return f"{counted(self.found.size, 'byte')}, {self.found.digest.hex()[:DIGITS]}"


class Diff(NamedTuple):
    """The values of one key, and the side that would get the other's.

    Attributes:
        key: the key.
        source, target: what the sides hold.
        to: the side that would change; None if neither would.
    """

    key: str
    source: Held
    target: Held
    to: str | None

    def fields(self) -> dict[str, object]:
        """Return the fields for programs."""
        text = None if self._texts() is None else [line.removesuffix("\n") for line in self._unified()]
        return {
            "key": self.key,
            "to": self.to,
            "in_source": self.source.fields(),
            "in_target": self.target.fields(),
            "text": text,
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines for people."""
        if self.to is None:
            yield f"  nothing would change at {self.key!r}"
        else:
            yield f"  {self.key!r} would change in the {self.to}"
        if self._texts() is None:
            yield f"  source     {self.source.words()}"
            yield f"  target     {self.target.words()}"
        else:
            yield from (line.removesuffix("\n") for line in self._unified())

    def _texts(self) -> tuple[Sequence[str], Sequence[str]] | None:
        """Return the lines of the value as it is, and as it would be; None where one is no text."""
        old, new = self._ordered()
        return None if old.text is None or new.text is None else (old.text, new.text)

    def _ordered(self) -> tuple[Held, Held]:
        return (self.source, self.target) if self.to == "source" else (self.target, self.source)

    def _unified(self) -> Iterable[str]:
        old, new = self._ordered()
        return difflib.unified_diff(*(self._texts() or ((), ())), old.name, new.name)


def diff_of(key: str, plan: Plan, storages: tuple[Storage, Storage], changes: Sequence[Put | Delete]) -> Diff:
    """Return what a plan would make of a key.

    Args:
        key: the key.
        plan: what would be done.
        storages: source and target.
        changes: what the command line gives, of which the last one of the key is what the source will hold.
    """
    given = next((change for change in reversed(changes) if change.key == key), None)
    source, target = (_held(storage, key) for storage in storages)
    if given is not None and (given.deletes or given.value is not None):
        source = _of(source.name, given.value)
    return Diff(key, source, target, _side(key, plan))


def _side(key: str, plan: Plan) -> str | None:
    for side, changes in (("target", plan.to_target), ("source", plan.to_source)):
        if any(change.key == key for change in changes):
            return side
    return None


def _held(storage: Storage, key: str) -> Held:
    """Return what a storage holds; read no large value twice."""
    name = redact(storage.name)
    ((_, found),) = digests(storage, [key])
    if not isinstance(found, Digested):
        return Held(name, found, [] if found is None else None)
    if found.size > TEXT_BYTES_MAX:
        return Held(name, found, None)
    (value,) = storage.read([key])
    return Held(name, found, None) if isinstance(value, Unreadable) else _of(name, value)


def _of(name: str, value: bytes | None) -> Held:
    if value is None:
        return Held(name, None, [])
    found = Digested(digest_values([value])[0], len(value))
    return Held(name, found, _lines_of(value) if len(value) <= TEXT_BYTES_MAX else None)


def _lines_of(value: bytes) -> Sequence[str] | None:
    """Return the lines of a text; None if a value is none."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text.splitlines(keepends=True)
