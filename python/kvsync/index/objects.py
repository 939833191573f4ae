"""Index objects by name, and conditional writes that know their own echo."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import msgpack

from kvsync.errors import FormatError, IndexDamagedError, StorageError
from kvsync.native import seal, unseal
from kvsync.storages.contract import ObjectMismatch

if TYPE_CHECKING:
    from kvsync.storages.contract import Storage
    from kvsync.types import Expectation, Version

__all__ = [
    "INVENTORY",
    "LEASE",
    "MANIFEST",
    "PACK_PREFIX",
    "PIECE_PREFIX",
    "damaged",
    "field_error",
    "is_uint",
    "pack",
    "reading",
    "reason_of",
    "segment_name",
    "store_if",
    "unpack",
]

MANIFEST = "manifest"
LEASE = "lease"
INVENTORY = "inventory"
PIECE_PREFIX = "piece/"
PACK_PREFIX = "pack/"

ATTEMPTS = 2
"""How often a write is tried that a storage refuses without a reason."""

UINT_MAX = 2**64 - 1


def segment_name(generation: int, number: int = 0) -> str:
    """Return the name of the `number`-th segment that manifest `generation` lists first.

    Number 0 is what a run moves or commits; compaction writes the others.

    >>> segment_name(26)
    'segment/000000000000001a-0'
    """
    return f"segment/{generation:016x}-{number:x}"


def store_if(storage: Storage, name: str, data: bytes, expect: Expectation) -> Version:
    """Write an index object on condition, and recognise our own write when its answer was lost.

    `data` must hold a fresh nonce. A client that retries by itself reports its own success as a refusal; so after a
    refusal or an error the object is read back. If it is ours, the write has succeeded; if it is somebody else's, not.

    Raises:
        ObjectMismatch: the object is not as expected, and not ours.
        StorageError: it failed, or whether it succeeded cannot be known, or it is refused although it is as expected.
    """
    for _ in range(ATTEMPTS):
        try:
            return storage.store(name, data, expect)
        except (ObjectMismatch, StorageError) as error:
            there = storage.load(name)
            if there is not None and there.data == data:
                return there.version
            # A version does not come back: if it is there now, then it was when the storage refused to replace it.
            if not isinstance(error, ObjectMismatch) or there is None or there.version != expect:
                raise
    message = (
        f"the storage refuses to replace {name} although it has the expected version, so no lease can be kept there; "
        "some servers do that to buckets whose versioning is suspended: enable versioning again, or name another bucket"
    )
    raise StorageError(message, storage=storage.name, key=name)


def pack(kind: int, fields: dict[str, object]) -> bytes:
    """Return a sealed object of `kind` with these fields, in this order."""
    return seal(kind, msgpack.packb(fields, use_bin_type=True))


def unpack(kind: int, data: bytes, names: tuple[str, ...], storage: str) -> dict[str, object]:
    """Open a sealed object that has exactly the fields `names`, the first being its own name.

    Raises:
        IndexDamagedError: it fails its checks.
        FormatError: a newer kvsync wrote it.
    """
    with reading(names[0], storage):
        body = unseal(kind, data)
    try:
        pairs = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=tuple,
            ext_hook=_refuse_extension,
        )
    except (ValueError, msgpack.UnpackException) as error:
        message = f"{names[0]} is damaged: not valid msgpack ({error}); {_way_out(names[0])}"
        raise IndexDamagedError(message, storage=storage, name=names[0]) from error
    if not isinstance(pairs, tuple) or tuple(key for key, _ in pairs) != ("name", *names[1:]):
        raise field_error(storage, names[0], "fields")
    fields = dict(pairs)
    if fields["name"] != names[0]:
        raise field_error(storage, names[0], "name")
    return fields


def field_error(storage: str, name: str, field: str) -> IndexDamagedError:
    """Return the error for an object whose `field` is not what the format says."""
    return damaged(storage, name, f"is damaged: its {field} is not what the index format allows")


def damaged(storage: str, name: str, what: str, offset: int | None = None) -> IndexDamagedError:
    """Return the error for object `name` that `what`, with the way out."""
    message = f"{name} {what}; {_way_out(name)}"
    return IndexDamagedError(message, storage=storage, name=name, offset=offset)


def reason_of(error: IndexDamagedError) -> str:
    """Return what is wrong with an object, without its name and the way out."""
    name = error.name or ""
    return error.message.removeprefix(f"{name} ").removesuffix(f"; {_way_out(name)}")


class reading:  # noqa: N801 - used as `with reading(...)`; a generator would cost four times as much, ten times a run
    """Gives errors of the decoder the object's name, its storage, and what to do.

    Raises:
        IndexDamagedError: in place of one that knows only the bytes.
        FormatError: the same.
    """

    __slots__ = ("name", "storage")

    def __init__(self, name: str, storage: str) -> None:
        self.name = name
        self.storage = storage

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FormatError):
            error.storage, error.name = self.storage, self.name
        elif isinstance(error, IndexDamagedError):
            raise damaged(self.storage, self.name, f"is damaged: {error.message}", error.offset) from error


def _way_out(name: str) -> str:
    if name == LEASE:
        return "if no run is under way, take it away with `kvsync unlock`"
    return "`kvsync verify --repair` (in Python verify with repair=True) shows what that means, and repairs it"


def is_uint(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer that the format can hold."""
    return type(value) is int and 0 <= value <= UINT_MAX


def _refuse_extension(code: int, _data: bytes) -> object:
    message = f"extension type {code}"
    raise ValueError(message)
