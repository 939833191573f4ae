"""Values that are keys of their own, of the type string."""

from __future__ import annotations

import re
from itertools import tee
from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.redis.link import Command, run_scripts, run_scripts_ahead, succeeded, walk
from kvsync.storages.redis.scripts import KINDS, PUT_EXPIRING, ValueScripts
from kvsync.storages.redis.values import INDEX_ENDS, Fetched
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.storages.redis.link import Link
    from kvsync.storages.redis.scripts import Script
    from kvsync.storages.redis.values import Held

__all__ = ["StringValues"]

SCAN_COUNT = 1000

_SPECIAL_IN_GLOB = re.compile(rb"([*?\[\]\\])")


class StringValues:
    """Values that are keys of their own, of the type string, below a prefix."""

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._prefix = prefix
        self._start = prefix.encode()
        self._scripts = ValueScripts.of_strings()
        self._may_be_new = True

    def name_of(self, key: str) -> bytes:
        """Return the key in the database."""
        return (self._prefix + key).encode()

    def get(self, names: Sequence[bytes]) -> list[bytes | Unreadable | None]:
        """Return values. MGET treats keys of other types as absent, so absent ones are looked at again."""
        found: list[bytes | Unreadable | None] = self._of_all("MGET", names)
        absent = [i for i, value in enumerate(found) if value is None]
        if absent:
            for position, kind in self._kinds([names[i] for i in absent]).items():
                found[absent[position]] = Unreadable(f"its key holds a {kind}, not a string")
        return found

    def fetch(self, batches: Iterable[Sequence[bytes]], limit: int) -> Iterator[Fetched]:
        """Yield values or sizes, and when they expire."""
        asked, answered = tee(self._calls(names, [], after=[limit]) for names in batches)
        found = run_scripts_ahead(self._link, self._scripts.fetch, (calls for _, calls in asked))
        for (groups, _), replies in zip(answered, found, strict=True):
            expires = {
                group[i - 1]: at
                for group, (_, which, times) in zip(groups, replies, strict=True)
                for i, at in zip(which, times, strict=True)
            }
            yield Fetched(_ungrouped(groups, [values for values, _, _ in replies]), expires)

    def expiries(self, names: Sequence[bytes]) -> list[int]:
        """Return when values expire; 0 if never, or if absent."""
        groups, calls = self._calls(names, [])
        return _ungrouped(groups, run_scripts(self._link, self._scripts.due, calls))

    def put(self, names: Sequence[bytes], values: Sequence[bytes]) -> dict[int, str]:
        """Write values without a TTL.

        Keys of other types are looked for just before; one that appears in between is overwritten. A script that looks
        and writes atomically would take twice the time, as it copies every value once more.
        """
        groups = self._link.groups(names)
        if self._may_be_new:
            groups = self._put_new(groups, names, values)
            self._may_be_new = not groups
        if not groups:
            return {}
        others = self._looked_at(groups, names)
        kept = [[i for i in group if i not in others] for group in groups] if others else groups
        succeeded(self._link, self._link.batch(_pairs("MSET", kept, names, values)))
        return others

    def put_expiring(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> dict[int, str]:
        """Write values that expire at their times (0: never); a time in the past deletes."""
        # Faster than that many SETs, for client and server.
        return self._others(PUT_EXPIRING, names, [values, expires])

    def drop(self, names: Sequence[bytes]) -> dict[int, str]:
        """Delete keys; the server frees them in the background. Keys of other types are looked for just before."""
        groups = self._link.groups(names)
        others = self._looked_at(groups, names)
        kept = [[names[i] for i in group if i not in others] for group in groups]
        commands = [Command(some[0], ("UNLINK", *some)) for some in kept if some]
        succeeded(self._link, self._link.batch(commands))
        return others

    def create(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> list[int]:
        """Write where the key is absent."""
        return self._refused(self._scripts.create, names, [values], [expires])

    def replace(self, names: Sequence[bytes], olds: Held, values: Sequence[bytes], expires: Sequence[int]) -> list[int]:
        """Write where the key has the old value."""
        return self._refused(self._scripts.replace, names, [olds.values, values], [olds.expires, expires])

    def drop_if(self, names: Sequence[bytes], olds: Held) -> list[int]:
        """Delete where the key has the old value."""
        return self._refused(self._scripts.delete, names, [olds.values], [olds.expires])

    def present(self, names: Sequence[bytes]) -> list[bool]:
        """Return whether each key exists."""
        commands = [Command(name, ("EXISTS", name)) for name in names]
        return [bool(reply) for reply in succeeded(self._link, self._link.batch(commands))]

    def names(self) -> Iterator[list[bytes]]:
        """Yield the keys below the prefix, without the prefix, and without indices.

        Raises:
            StorageError: the listing may be incomplete.
        """
        pattern = _SPECIAL_IN_GLOB.sub(rb"\\\1", self._start) + b"*"
        before = self._link.topology()
        clients = self._link.primaries()
        cut = len(self._start)
        for page in walk(self._link, lambda cursor: ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT), clients):
            yield [name[cut:] for name in page if name.startswith(self._start) and not name.endswith(INDEX_ENDS)]
        if self._link.topology() != before:
            message = "the cluster moved slots during the listing, which may miss keys: run again"
            raise StorageError(message, storage=self._link.texts.name)

    def _put_new(self, groups: list[list[int]], names: Sequence[bytes], values: Sequence[bytes]) -> list[list[int]]:
        """Write the groups of which no key exists; return the others. It costs no more than an unconditional write."""
        replies = succeeded(self._link, self._link.batch(_pairs("MSETNX", groups, names, values)))
        return [group for group, written in zip(groups, replies, strict=True) if not written]

    def _kinds(self, names: Sequence[bytes]) -> dict[int, str]:
        """Return the type of each key that exists and is not a string."""
        groups = self._link.groups(names)
        commands = [Command(names[group[0]], ("EXISTS", *(names[i] for i in group))) for group in groups]
        if not any(succeeded(self._link, self._link.batch(commands))):
            return {}
        return self._looked_at(groups, names)

    def _looked_at(self, groups: list[list[int]], names: Sequence[bytes]) -> dict[int, str]:
        """Return the type of each key that is not a string, and note whether any key exists."""
        replies = run_scripts(self._link, KINDS, [([names[i] for i in group], ()) for group in groups])
        self._may_be_new = not any(some for some, _ in replies)
        return {
            group[position - 1]: _kind(kind)
            for group, (_, others) in zip(groups, replies, strict=True)
            for position, kind in others
        }

    def _of_all(self, command: str, names: Sequence[bytes]) -> list[Any]:
        groups = self._link.groups(names)
        if len(groups) == 1:
            return list(succeeded(self._link, self._link.batch([Command(names[0], (command, *names))]))[0])
        commands = [Command(names[group[0]], (command, *(names[i] for i in group))) for group in groups]
        return _ungrouped(groups, succeeded(self._link, self._link.batch(commands)))

    def _others(
        self, script: Script, names: Sequence[bytes], columns: Sequence[Sequence[bytes | int]]
    ) -> dict[int, str]:
        groups, calls = self._calls(names, columns)
        replies = zip(groups, run_scripts(self._link, script, calls), strict=True)
        return {group[position - 1]: _kind(kind) for group, reply in replies for position, kind in reply}

    def _refused(
        self,
        script: Script,
        names: Sequence[bytes],
        columns: Sequence[Sequence[bytes]],
        times: Sequence[Sequence[int]],
    ) -> list[int]:
        groups, calls = self._calls(names, [*columns, *times] if any(map(any, times)) else columns)
        replies = run_scripts(self._link, script, calls)
        return [group[i - 1] for group, reply in zip(groups, replies, strict=True) for i in reply]

    def _calls(
        self, names: Sequence[bytes], columns: Sequence[Sequence[bytes | int]], after: Sequence[int] = ()
    ) -> tuple[list[list[int]], list[tuple[list[bytes], list[bytes | int]]]]:
        groups = self._link.groups(names)
        calls: list[tuple[list[bytes], list[bytes | int]]] = [
            ([names[i] for i in group], [*(column[i] for column in columns for i in group), *after]) for group in groups
        ]
        return groups, calls


def _ungrouped(groups: Sequence[list[int]], replies: Sequence[Sequence[Any]]) -> list[Any]:
    """Return what was replied for each position, in their order; a group's reply has one for each of its positions."""
    found: dict[int, Any] = {}
    for group, reply in zip(groups, replies, strict=True):
        found.update(zip(group, reply, strict=True))
    return [found[position] for position in range(len(found))]


def _pairs(command: str, groups: Sequence[list[int]], names: Sequence[bytes], values: Sequence[bytes]) -> list[Command]:
    """Return a command of names and values for each group that has some."""
    commands = []
    for group in filter(None, groups):
        words: list[bytes] = [b""] * (2 * len(group))
        words[0::2] = [names[i] for i in group]
        words[1::2] = [values[i] for i in group]
        commands.append(Command(words[0], (command, *words)))
    return commands


def _kind(raw: bytes) -> str:
    return raw.decode("ascii", "replace")
