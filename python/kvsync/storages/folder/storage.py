"""A folder as a storage: one file for each key, the index below `.kvsync/`.

`kvsync.storages.folder.keyname` says which file belongs to which key. Existing files are keys under their own names.
Symbolic links, sockets and devices are not values: a scan skips them, and nothing is written onto one. Links that stay
in the folder can be followed.

A value is written to a file below `.kvsync/tmp/`, made durable, and renamed. Its version token is modification time,
change time, size and inode. We set the modification time ourselves, to the nanosecond, since the kernel's clock is
coarser: so a write by somebody else right after ours has another token.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal

from kvsync.errors import UsageError
from kvsync.storages.batch import Batch
from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.storages.folder.empty import KeepingFiles, KeepingListing, KeepingReader, WaryReader
from kvsync.storages.folder.failure import attempt, storage_errors
from kvsync.storages.folder.index import FolderIndex
from kvsync.storages.folder.keyname import Naming
from kvsync.storages.folder.links import Links
from kvsync.storages.folder.listing import Listing
from kvsync.storages.folder.made import MadeDirectories, is_needed
from kvsync.storages.folder.marked import MarkedFiles
from kvsync.storages.folder.metadata import shown_metadata, wanted_metadata
from kvsync.storages.folder.options import checked_meta
from kvsync.storages.folder.reading import parts_of
from kvsync.storages.folder.staging import Staging, stage_all
from kvsync.storages.folder.token import is_young
from kvsync.storages.folder.values import ValueFiles
from kvsync.storages.path import is_within
from kvsync.types import ANY, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from kvsync.storages.contract import Pages, Storage
    from kvsync.storages.folder.hints import FolderHints
    from kvsync.storages.folder.reading import ValueReader
    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.hints import Wake
    from kvsync.types import AnyVersion, Metadata, Skipped, Unreadable

__all__ = ["FolderStorage"]

SCAN_COUNT = 10_000


class FolderStorage(FolderIndex):
    """A folder as a storage.

    Args:
        path: the folder; it may be a symbolic link.
        create: create the folder at the first write; until then it reads as empty.
        meta: "mode" and "mtime", any of the two: what a new file gets of the file that its value comes from, in another
            folder with this option.
        empty_dirs: "keep" takes an empty directory for the value of a key that ends with `/`.
        links: "follow" reads and writes through symbolic links that stay in the folder.
        clock_ns: returns wall-clock nanoseconds, the modification time of the files that we write.
    """

    capabilities = Capabilities(
        Tier.FOLDER,
        tokens=OpaqueTokens(is_young=is_young),
        supports=frozenset(
            {
                Support.TOKENS,
                Support.SIZES,
                Support.RANGES,
                Support.STREAMING,
                Support.IDENTITY,
                Support.NESTING,
                Support.SKIPPED,
                Support.DRY_PROBE,
                Support.HINTS,
            }
        ),
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        links: Literal["skip", "follow"] = "skip",
        meta: Collection[str] = (),
        empty_dirs: Literal["ignore", "keep"] = "ignore",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(path, create=create)
        self._follow = links == "follow"
        self._keeps = empty_dirs == "keep"
        if self._follow and self._keeps:
            message = "links=follow and empty_dirs=keep cannot be combined: leave one of them out"
            raise UsageError(message, storage=self.name)
        self._clock_ns = clock_ns
        self._skipped: tuple[Skipped, ...] = ()
        self._meta = checked_meta(meta, self.name)
        if self._meta:
            supports = self.capabilities.supports | {Support.METADATA}
            self.capabilities = replace(self.capabilities, supports=supports)

    def __repr__(self) -> str:
        """Return the class and the folder's path."""
        return f"FolderStorage({self.path!r})"

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What the last scan skipped: links, sockets, devices; names that cannot be keys, unreadable directories."""
        return self._skipped

    def read(self, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        """Return the values of `keys`, in their order; None for a key where nothing is.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return [None] * len(keys)
            reader = self._reader(tree, naming)
            return [reader.read(key) for key in keys]

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write `values[i]` at `keys[i]`, with `expect` only where the current file has that token.

        Raises:
            StorageError: the folder cannot be written.
        """
        return self._write(keys, values, expect)

    def write_with_metadata(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        metadata: Sequence[Metadata | None],
        expect: Sequence[bytes | None] | None = None,
    ) -> Written:
        """Write as `write` does; a new file gets what `meta` names of `metadata[i]`.

        Raises:
            StorageError: the folder cannot be written.
        """
        return self._write(keys, values, expect, metadata)

    def _write(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        expect: Sequence[bytes | None] | None,
        metadata: Sequence[Metadata | None] | None = None,
    ) -> Written:
        if not keys:
            return Written(tokens=())
        batch = Batch(keys, values, expect)
        tokens: list[bytes | None] = []
        with self._changing(batch) as (files, staging):
            beside, install = self._beside(files, keys, metadata)
            with contextlib.closing(stage_all(partial(files.stage, staging), staging, values, *beside)) as all_staged:
                for position, staged in enumerate(all_staged):
                    key, wanted = keys[position], ANY if expect is None else expect[position]
                    tokens.append(attempt(batch, key, install, staging, staged, key, wanted))
        return batch.written(tokens)

    def delete(self, keys: Sequence[str], expect: Sequence[bytes | None] | None = None) -> Written:
        """Delete `keys`, with `expect` only where the current file has that token.

        A directory that kvsync made is removed when it becomes empty.

        Raises:
            StorageError: the folder cannot be written.
        """
        batch = Batch(keys, expect=expect)
        with self._reading() as (tree, naming):
            if tree is None or not keys:
                return Written()
            files = self._files(tree, naming)
            with contextlib.nullcontext() if expect is None else Staging(tree) as staging:
                for position, key in enumerate(keys):
                    wanted: bytes | AnyVersion | None = ANY if expect is None else expect[position]
                    attempt(batch, key, files.delete, key, wanted, staging)
            self._prune(tree, files)
            tree.sync()
        return batch.written()

    def scan(self) -> Pages:
        """Yield every key with its token, in batches, in UTF-8 byte order.

        Raises:
            StorageError: the folder cannot be listed.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return
            listing = (KeepingListing if self._keeps else Listing)(tree, naming, self._links(tree))
            listed = listing.walk(self._files(tree, naming))
            self._skipped = listing.skipped
            while batch := list(islice(listed, SCAN_COUNT)):
                yield [key for key, _ in batch], [token for _, token in batch]

    def metadata(self, keys: Sequence[str]) -> list[Metadata | None]:
        """Return what `meta` names of the file of each key; None if there is none.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return [None] * len(keys)
            files = self._files(tree, naming)
            return [shown_metadata(status, self._meta) for status in map(files.status, keys)]

    def tokens(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the current token of each key; None where nothing is, an empty one where something is that has none.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return [None] * len(keys)
            return [*map(self._files(tree, naming).token, keys)]

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the size of each value; None if it is absent.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return [None] * len(keys)
            files = self._files(tree, naming)
            return [_size(status) for status in map(files.status, keys)]

    def read_stream(self, key: str) -> Iterator[bytes] | Unreadable | None:
        """Return the parts of a value, or None.

        Raises:
            StorageError: the folder cannot be read.
            TornRead: from the iterator: the file changed meanwhile, or its rest cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return None
            reader = self._reader(tree, naming)
            file = reader.open_value(key)
            found = reader.without_file(key) if file is None else file
        if isinstance(found, bytes):
            return iter(())
        if not isinstance(found, int):
            return found
        parts = self._parts(found)
        next(parts)
        return parts

    def write_stream(self, key: str, parts: Iterator[bytes], expect: Sequence[bytes | None] | None = None) -> Written:
        """Write a value from its parts; nothing is written if `parts` raises.

        Raises:
            StorageError: the folder cannot be written.
        """
        return self._write_stream(key, parts, expect)

    def write_stream_with_metadata(
        self, key: str, parts: Iterator[bytes], metadata: Metadata | None, expect: Sequence[bytes | None] | None = None
    ) -> Written:
        """Write as `write_stream` does; a new file gets what `meta` names of `metadata`.

        Raises:
            StorageError: the folder cannot be written.
        """
        return self._write_stream(key, parts, expect, [metadata])

    def _write_stream(
        self,
        key: str,
        parts: Iterator[bytes],
        expect: Sequence[bytes | None] | None,
        metadata: Sequence[Metadata | None] | None = None,
    ) -> Written:
        batch = Batch([key], expect=expect)
        with self._changing(batch) as (files, staging):
            beside, install = self._beside(files, [key], metadata)
            staged = files.stage_parts(staging, parts, *(column[0] for column in beside))
            try:
                wanted = ANY if expect is None else expect[0]
                token = attempt(batch, key, install, staging, staged, key, wanted)
            finally:
                staging.discard(staged.name)
        return batch.written([token])

    def modified_ms(self, keys: Sequence[str]) -> list[int | None]:
        """Return when the file of each key was last modified; None if there is none.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return [None] * len(keys)
            files = self._files(tree, naming)
            return [None if status is None else status.st_mtime_ns // 1_000_000 for status in map(files.status, keys)]

    def hints(self, wake: Wake) -> FolderHints:
        """Notice changes by the events of the operating system.

        Raises:
            NoHintsError: the package watchfiles is missing, or the system allows no further watches.
        """
        from kvsync.storages.folder.hints import FolderHints  # noqa: PLC0415 - most runs need none

        return FolderHints(self.absolute_path, self.key_at, wake)

    def contains(self, other: Storage) -> bool:
        """Return whether another folder is within this one, or this one by another name."""
        return isinstance(other, FolderStorage) and is_within(other.absolute_path, self.absolute_path)

    def key_at(self, path: str) -> str | None:
        """Return the key of the file at an absolute path, which has no symbolic links, or None if it is outside."""
        root = os.path.realpath(self.absolute_path)
        if not path.startswith(os.path.join(root, "")):
            return None
        return (self._naming or Naming()).decode(os.path.relpath(path, root).replace(os.sep, "/"))

    def leading_to(self, keys: Sequence[str], files: Sequence[str]) -> list[str]:
        """Return the keys whose file is one of some files, by whatever link or name, or would be below one.

        A file at the place of a directory to be made is renamed. So a key below a database moved the database away.

        Raises:
            StorageError: the folder cannot be read.
        """
        with self._reading() as (tree, naming):
            if tree is None:
                return []
            mine = MarkedFiles(os.path.realpath(self.absolute_path), files)
            # Without links of either kind no other path leads to a file.
            asked = keys if self._follow or mine.have_other_names else [key for key in keys if mine.may_be_above(key)]
            values = self._files(tree, naming) if asked else None
            return [key for key in asked if values is not None and mine.include(*values.whereabouts(key))]

    def _parts(self, file: int) -> Iterator[bytes]:
        try:
            yield b""  # a generator that was never begun would not close the file
            with storage_errors(self.name):
                yield from parts_of(file)
        finally:
            os.close(file)

    def _links(self, tree: SafeTree) -> Links:
        return Links(tree, os.path.realpath(self.absolute_path) if self._follow else "", follow=self._follow)

    def _reader(self, tree: SafeTree, naming: Naming) -> ValueReader:
        return (KeepingReader if self._keeps else WaryReader)(tree, naming, self._links(tree))

    def _files(self, tree: SafeTree, naming: Naming) -> ValueFiles:
        return (KeepingFiles if self._keeps else ValueFiles)(tree, naming, self._links(tree), self._clock_ns)

    def _beside(
        self, files: ValueFiles, keys: Sequence[str], metadata: Sequence[Metadata | None] | None
    ) -> tuple[list[list[Metadata | None]], Callable[..., bytes]]:
        """Return what the staged files of `keys` get beside their values, and how such files are installed."""
        if metadata is None:
            return [], files.install
        pairs = zip(keys, metadata, strict=True)
        new = [wanted_metadata(given, self._meta) if files.status(key) is None else None for key, given in pairs]
        return [new], files.install_new

    @contextlib.contextmanager
    def _changing(self, batch: Batch) -> Iterator[tuple[ValueFiles, Staging]]:
        """Give what writes files; make what was written durable in the end."""
        with self._writing() as tree, Staging(tree) as staging:
            naming = self._naming or self._probed(staging)
            tree.folds = naming.folds
            files = self._files(tree, naming)
            files.begin(staging)
            yield files, staging
            MadeDirectories(tree).add(tree.made)
            files.finish(staging, all_done=not batch.refused)

    def _prune(self, tree: SafeTree, files: ValueFiles) -> None:
        if not files.emptied:
            return
        made = MadeDirectories(tree)
        removed = files.prune(lambda path: path in made and not is_needed(tree, path))
        if any(path in made for path in removed):
            with Staging(tree) as staging:
                made.discard(removed, staging)


def _size(status: os.stat_result | None) -> int | None:
    """Return the size of the value that a file is, or an empty directory."""
    if status is None:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
