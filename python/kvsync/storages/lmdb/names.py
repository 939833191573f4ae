"""The names of an LMDB storage's databases, and of its lease file."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Names", "environment_files"]

DATABASE = "kv"
OURS = ".kvsync/"
NAME_BYTES_MAX = 400


@dataclass(frozen=True, slots=True)
class Names:
    """The names that belong to one database of values.

    Attributes:
        database: the name of that database; empty for the unnamed one.

    Raises:
        UsageError: the name is reserved or too long.
    """

    database: str = DATABASE

    def __post_init__(self) -> None:
        """Check the name."""
        if self.database.startswith(OURS) or len(self.database.encode(errors="replace")) > NAME_BYTES_MAX:
            message = f"db={self.database!r:.200} is reserved or too long: name another database"
            raise UsageError(message)

    @property
    def ordinary(self) -> bytes | None:
        """The database of the keys that LMDB can hold; None means the unnamed one to LMDB."""
        return self.database.encode() or None

    @property
    def special(self) -> bytes:
        """The database of the other keys."""
        return f"{OURS}long/{self.database}".encode()

    @property
    def index(self) -> bytes:
        """The database of the index objects."""
        return f"{OURS}index/{self.database}".encode()

    @property
    def all(self) -> tuple[bytes | None, bytes, bytes]:
        """The three databases, in the order of the handles in `Values`."""
        return self.ordinary, self.special, self.index

    @property
    def lease(self) -> str:
        """The lease file beside the data."""
        # A digest, since a database may have any name, and a file system may treat `KV` and `kv` as equal.
        digest = digest_values([self.database.encode()])[0].hex()[:16]
        return "kvsync.lease" if self.database == DATABASE else f"kvsync-{digest}.lease"

    @staticmethod
    def is_ours(name: bytes) -> bool:
        """Whether a database holds an index, or long keys."""
        return name.startswith(OURS.encode())

    def reserved_keys(self, databases: Sequence[bytes]) -> frozenset[bytes]:
        """Return the keys of the unnamed database that are names of databases, existing or ours."""
        names = [*databases, self.index, self.special]
        return frozenset([*names, *(name + b"\0" for name in names)])  # LMDB 1.0 ends names with NUL


def environment_files(path: str) -> list[str]:
    """Return the paths of all files of the environment at `path`, a directory unless it is a file."""
    if os.path.isfile(path):
        return [path, f"{path}-lock", f"{path}-kvsync.lock", f"{path}-kvsync.lease", *_leases(f"{path}-")]
    ours = ("data.mdb", "lock.mdb", "kvsync.lock", "kvsync.lease")
    return [*(os.path.join(path, name) for name in ours), *_leases(os.path.join(path, ""))]


def _leases(beginning: str) -> list[str]:
    """Return the lease files of databases with other names."""
    return glob.glob(f"{glob.escape(beginning)}kvsync-*.lease")
