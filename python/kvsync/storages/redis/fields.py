"""Values that are the fields of one hash."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from kvsync.storages.redis.link import Command, run_scripts, run_scripts_ahead, succeeded
from kvsync.storages.redis.scripts import ValueScripts
from kvsync.storages.redis.values import Fetched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kvsync.storages.redis.link import Calls, Link
    from kvsync.storages.redis.scripts import Script
    from kvsync.storages.redis.values import Held
    from kvsync.types import Unreadable

__all__ = ["FieldValues"]

SCAN_COUNT = 1000
SCAN_COUNT_WITH_VALUES = 100


class FieldValues:
    """Values that are the fields of one hash; a TTL of a field, which the newest servers support, is ignored."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._hash = name.encode()
        self._scripts = ValueScripts.of_fields()
        self._lists_names_alone = True

    def name_of(self, key: str) -> bytes:
        """Return the name of the field."""
        return key.encode()

    def get(self, names: Sequence[bytes]) -> list[bytes | Unreadable | None]:
        """Return values."""
        return list(self._do("HMGET", *names))

    def fetch(self, batches: Iterable[Sequence[bytes]], limit: int) -> Iterator[Fetched]:
        """Yield values or sizes."""
        calls: Iterator[Calls] = ([([self._hash], [len(names), *names, limit])] for names in batches)
        for replies in run_scripts_ahead(self._link, self._scripts.fetch, calls):
            yield Fetched(replies[0][0], {})

    def put(self, names: Sequence[bytes], values: Sequence[bytes]) -> dict[int, str]:
        """Write values; a field's TTL is lost with its old value, that of the hash is kept."""
        self._do("HSET", *chain.from_iterable(zip(names, values, strict=True)))
        return {}

    def drop(self, names: Sequence[bytes]) -> dict[int, str]:
        """Delete fields."""
        self._do("HDEL", *names)
        return {}

    def create(self, names: Sequence[bytes], values: Sequence[bytes], expires: Sequence[int]) -> list[int]:  # noqa: ARG002
        """Write where the field is absent."""
        return [i - 1 for i in self._run(self._scripts.create, names, values)]

    def replace(
        self,
        names: Sequence[bytes],
        olds: Held,
        values: Sequence[bytes],
        expires: Sequence[int],  # noqa: ARG002
    ) -> list[int]:
        """Write where the field has the old value."""
        return [i - 1 for i in self._run(self._scripts.replace, names, [*olds.values, *values, *olds.expires])]

    def drop_if(self, names: Sequence[bytes], olds: Held) -> list[int]:
        """Delete where the field has the old value."""
        return [i - 1 for i in self._run(self._scripts.delete, names, [*olds.values, *olds.expires])]

    def present(self, names: Sequence[bytes]) -> list[bool]:
        """Return whether each field exists."""
        commands = [Command(self._hash, ("HEXISTS", self._hash, name)) for name in names]
        return [bool(reply) for reply in succeeded(self._link, self._link.batch(commands))]

    def names(self) -> Iterator[list[bytes]]:
        """Yield the fields, page by page.

        Raises:
            StorageError: the server refused or failed.
        """
        cursor = -1
        while cursor != 0:
            with self._link.texts.translated():
                cursor, page = self._page(max(cursor, 0))
            yield page

    def _page(self, cursor: int) -> tuple[int, list[bytes]]:
        client = self._link.client()
        if self._lists_names_alone:
            try:
                position, page = client.hscan(self._hash, cursor, count=SCAN_COUNT, no_values=True)
            except self._link.library.exceptions.ResponseError:
                self._lists_names_alone = False  # a server from before Redis 7.4
            else:
                return position, list(page)
        position, page = client.hscan(self._hash, cursor, count=SCAN_COUNT_WITH_VALUES)
        return position, list(page)

    def _do(self, command: str, *words: bytes) -> Any:
        return succeeded(self._link, self._link.batch([Command(self._hash, (command, self._hash, *words))]))[0]

    def _run(self, script: Script, names: Sequence[bytes], after: Sequence[bytes | int]) -> Any:
        return run_scripts(self._link, script, [([self._hash], [len(names), *names, *after])])[0]
