"""Values that lost a conflict, kept in the storage that held them (docs/index-format.md, kind 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.index.objects import field_error, is_uint, pack, unpack
from kvsync.native import KIND_LOST, digest_values

if TYPE_CHECKING:
    from kvsync.types import Change

__all__ = ["LOST_PREFIX", "LostValue"]

LOST_PREFIX = "lost/"

FIELDS = ("key", "origin", "stamp", "flags", "digest", "value")


class LostValue(NamedTuple):
    """A value that lost a conflict, or that a restored one replaced: the change that it belonged to, and the value."""

    key: str
    origin: int
    stamp: int
    flags: int
    digest: bytes
    value: bytes

    def __repr__(self) -> str:
        """Return what it is, without the value."""
        return f"LostValue(key={self.key!r}, id={self.id!r})"

    @classmethod
    def of(cls, change: Change, value: bytes) -> LostValue:
        """Return what `change` set."""
        return cls(change.key, change.origin, change.stamp, change.flags, change.digest, value)

    @property
    def id(self) -> str:
        """What names it among the lost values of its storage; the ids of a key ascend with time."""
        return f"{self.stamp:016x}-{self.origin:016x}-{self.digest[:4].hex()}"

    @property
    def name(self) -> str:
        """The object's name below `.kvsync/`."""
        return f"{LOST_PREFIX}{self.id}"

    def sealed(self) -> tuple[str, bytes]:
        """Return the name below `.kvsync/` and the bytes of the object."""
        name = self.name
        fields: dict[str, object] = {
            "name": name,
            "key": self.key,
            "origin": self.origin,
            "stamp": self.stamp,
            "flags": self.flags,
            "digest": self.digest,
            "value": self.value,
        }
        return name, pack(KIND_LOST, fields)

    @classmethod
    def decode(cls, data: bytes, name: str, storage: str) -> LostValue:
        """Read a sealed object.

        Raises:
            IndexDamagedError: it fails its checks.
        """
        fields = unpack(KIND_LOST, data, (name, *FIELDS), storage)
        key, digest, value = fields["key"], fields["digest"], fields["value"]
        origin, stamp, flags = (fields[field] for field in ("origin", "stamp", "flags"))
        if type(key) is not str or type(digest) is not bytes or type(value) is not bytes:
            raise field_error(storage, name, "fields")
        if type(origin) is not int or type(stamp) is not int or type(flags) is not int:
            raise field_error(storage, name, "numbers")
        if not all(map(is_uint, (origin, stamp, flags))) or digest_values([value]) != [digest]:
            raise field_error(storage, name, "value")
        return cls(key, origin, stamp, flags, digest, value)
