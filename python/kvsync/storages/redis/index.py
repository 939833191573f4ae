"""Index objects in Redis: those of a storage are the fields of one hash.

So they have one slot in a cluster, are listed without walking through the database, and are one key to grant to a user.
A field contains the object's version, 16 random bytes, and then its data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.contract import ObjectMismatch
from kvsync.storages.redis.link import Command, run_scripts, succeeded
from kvsync.storages.redis.scripts import REMOVE_OBJECT, STORE_OBJECT, VERSION_BYTES
from kvsync.types import ABSENT, ANY, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages.redis.link import Link
    from kvsync.types import Expectation, Version

__all__ = ["ObjectHash"]


class ObjectHash:
    """The hash that holds a storage's index objects.

    Args:
        link: to the server or servers.
        key: the hash's key.
        random_bytes: returns that many random bytes.
    """

    def __init__(self, link: Link, key: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._link = link
        self._key = key
        self._random_bytes = random_bytes

    def load(self, name: str) -> Stored | None:
        """Return an object, or None.

        Raises:
            StorageError: it cannot be read.
        """
        field = self._do("HGET", name.encode())
        if field is None:
            return None
        if len(field) < VERSION_BYTES:
            message = f"object {name!r:.200} of the index was changed by another program: delete field and key"
            raise StorageError(message, storage=self._link.texts.name)
        return Stored(field[VERSION_BYTES:], field[:VERSION_BYTES])

    def store(self, name: str, data: bytes, expect: Expectation) -> Version:
        """Write an object and return its new version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was written.
            StorageError: it cannot be written, or the outcome is unknown.
        """
        version = self._random_bytes(VERSION_BYTES)
        how, wanted = _condition(expect)
        arguments: list[bytes | int | str] = [name.encode(), how, wanted, version + data]
        if run_scripts(self._link, STORE_OBJECT, [([self._key], arguments)]) != [1]:
            raise ObjectMismatch(name)
        return version

    def remove(self, names: Sequence[str], expect: Expectation) -> None:
        """Remove objects; with a version, remove one object if it has that version.

        Raises:
            ObjectMismatch: it does not have the expected version; nothing was removed.
            StorageError: they cannot be removed.
        """
        if not names:
            return
        if expect is ABSENT:
            for name in names:
                if self.load(name) is not None:
                    raise ObjectMismatch(name)
        elif expect is ANY:
            self._do("HDEL", *(name.encode() for name in names))
        else:
            (name,) = names
            arguments = [name.encode(), _condition(expect)[1]]
            if run_scripts(self._link, REMOVE_OBJECT, [([self._key], arguments)]) != [1]:
                raise ObjectMismatch(name)

    def names(self) -> list[str]:
        """Return the names of all objects, ascending.

        Raises:
            StorageError: they cannot be listed.
        """
        return sorted(name.decode("utf-8", "replace") for name in self._do("HKEYS"))

    def _do(self, command: str, *words: bytes) -> Any:
        return succeeded(self._link, self._link.batch([Command(self._key, (command, self._key, *words))]))[0]


def _condition(expect: Expectation) -> tuple[str, bytes]:
    if isinstance(expect, bytes):
        # A version of another length is not ours; the script compares whole versions.
        return "version", expect
    return ("absent", b"") if expect is ABSENT else ("any", b"")
