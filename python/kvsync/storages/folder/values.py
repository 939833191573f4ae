"""Write and delete the file of one key, below the root of a folder."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from kvsync.storages.folder.keyname import VALUE_SUFFIX
from kvsync.storages.folder.metadata import EXECUTABLE
from kvsync.storages.folder.paths import paths_of
from kvsync.storages.folder.replacing import ChangedError, create, remove, replace
from kvsync.storages.folder.safe_tree import KeyBlockedError, NoValueError, kind_of
from kvsync.storages.folder.staging import Staged, write_all
from kvsync.storages.folder.token import COARSE_TICK_NS, content_of, directory_token, token_of
from kvsync.types import AnyVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvsync.storages.folder.keyname import Naming
    from kvsync.storages.folder.links import Links
    from kvsync.storages.folder.safe_tree import SafeTree
    from kvsync.storages.folder.staging import Staging
    from kvsync.types import Metadata

__all__ = ["Found", "ValueFiles", "Wanted"]

Wanted: TypeAlias = "bytes | AnyVersion | None"

UNKNOWN = b""
"""The token of a file that may not be ours any more, or whose times are too coarse to tell."""

PLAIN = 0o666
_EXACT_NS = 1_000_000
_TICK_NS = 10_000_000
"""All clocks of file systems that are coarser than a millisecond tick at multiples of that."""


class Found(NamedTuple):
    """What exists at the paths of a key.

    Attributes:
        paths: where the value may be, without links, the preferred one first.
        files: the files among them.
        others: what else is there, for people.
        blocked: what makes it impossible to say what is at a path.
        empty: the empty directory that is the value, where such are values.
    """

    paths: list[str]
    files: list[tuple[str, os.stat_result]]
    others: dict[str, str]
    blocked: NoValueError | None
    empty: tuple[str, os.stat_result] | None = None

    @property
    def token(self) -> bytes | None:
        """The token of the value."""
        if self.files:
            return token_of(self.files[0][1])
        return None if self.empty is None else directory_token(self.empty[1])

    @property
    def status(self) -> os.stat_result | None:
        """The status of the file, or the empty directory."""
        entry = self.files[0] if self.files else self.empty
        return None if entry is None else entry[1]


class ValueFiles:
    """The files of values below one tree, during one batch."""

    def __init__(self, tree: SafeTree, naming: Naming, links: Links, clock_ns: Callable[[], int]) -> None:
        self._tree = tree
        self._naming = naming
        self._links = links
        self._clock_ns = clock_ns
        self.emptied: set[str] = set()

    def begin(self, staging: Staging) -> None:
        """Begin to write."""

    def finish(self, staging: Staging, *, all_done: bool) -> None:  # noqa: ARG002
        """Make what was written durable; `all_done`: nothing was refused."""
        self._tree.sync()

    def status(self, key: str) -> os.stat_result | None:
        """Return the status of the file of a key, or of its empty directory, or None."""
        try:
            first = self._tree.status(self._links.target(paths_of(self._naming, key)[0]))
            if first is not None and stat.S_ISREG(first.st_mode):
                return first
            return self._find(key).status
        except (KeyBlockedError, OSError):
            return None

    def whereabouts(self, key: str) -> tuple[list[str], list[os.stat_result]]:
        """Return the paths of a key, without links, and the statuses of the files there."""
        try:
            found = self._find(key)
        except (KeyBlockedError, OSError):
            return [], []
        return found.paths, [status for _, status in found.files]

    def token(self, key: str) -> bytes | None:
        """Return the token of the file of a key; None where nothing is, `UNKNOWN` where something else is."""
        try:
            found = self._find(key)
            if found.blocked is not None:
                return UNKNOWN
            self._check_nothing_else(found)
        except (NoValueError, OSError):
            return UNKNOWN
        except KeyBlockedError:
            return None  # no file can be that of this key
        plain = found.paths[0]
        is_empty = plain in found.others and not found.files and self._is_no_value(plain)
        return UNKNOWN if is_empty else found.token

    def winner(self, key: str) -> bytes | None:
        """Return the token of the file that counts, if a key has several."""
        return self._find(key).token

    def stage(self, staging: Staging, value: bytes, metadata: Metadata | None = None) -> Staged | OSError:
        """Write a value to an unfinished file, durably; several threads may do this at the same time."""
        try:
            return self.stage_parts(staging, (value,), metadata)
        except OSError as error:
            return error

    def stage_parts(self, staging: Staging, parts: Iterable[bytes], metadata: Metadata | None = None) -> Staged:
        """Write the parts of a value to an unfinished file, durably; remove it on failure.

        With `metadata`, the file is executable as that says, as far as the umask allows, and has that time.

        Raises:
            OSError: it cannot be written.
        """
        executable = 0 if metadata is None else (metadata.executable or 0) & EXECUTABLE
        temporary, file = staging.create(PLAIN | executable)
        try:
            for part in parts:
                write_all(file, part)
            return self._dated(temporary, file, metadata)
        except BaseException:
            staging.discard(temporary)
            raise
        finally:
            os.close(file)

    def restage(self, staging: Staging, staged: Staged) -> Staged:
        """Give an unfinished file the present time."""
        file = os.open(staged.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging.directory)
        try:
            return self._dated(staged.name, file, None)
        finally:
            os.close(file)

    def install_new(self, staging: Staging, staged: Staged | OSError, key: str, wanted: Wanted) -> bytes:
        """Install a file with the metadata of another; if its key has a file by now, that one's metadata stay.

        Raises:
            ChangedError: the current file is not the expected one.
            KeyBlockedError: something prevents the key from being written.
        """
        if isinstance(staged, Staged) and self.status(key) is not None:
            staged = self.restage(staging, staged)
        return self.install(staging, staged, key, wanted)

    def install(self, staging: Staging, staged: Staged | OSError, key: str, wanted: Wanted) -> bytes:
        """Rename a staged file to that of a key, and return its token.

        Raises:
            ChangedError: the current file is not the expected one.
            KeyBlockedError: something prevents the key from being written.
        """
        if isinstance(staged, OSError):
            raise staged
        found = self._find(key)
        if found.blocked is not None:
            raise found.blocked
        self._compare(found.token, wanted)
        path = self._choose(found)
        parent, _, leaf = path.rpartition("/")
        here = self._tree.make(parent, displace=True)
        if found.files:
            replace(staging, staged, here, leaf, None if isinstance(wanted, AnyVersion) else found.files[0][1])
        elif isinstance(wanted, AnyVersion):
            os.rename(staged.name, leaf, src_dir_fd=staging.directory, dst_dir_fd=here)
        else:
            create(staging, staged, here, leaf)
        self._tree.touch(parent)
        token = _token_in_place(staged, here, leaf)
        for other, _status in found.files:
            if other != path:
                self._unlink(other)
        return token

    def delete(self, key: str, wanted: Wanted, staging: Staging | None) -> None:
        """Delete a value, if there is one; with `staging` only if it is the expected one when it is taken away.

        Raises:
            ChangedError: the current file is not the expected one.
            KeyBlockedError: something is there that is no value, or its name cannot be distinguished from another.
        """
        found = self._find(key)
        if found.blocked is not None:
            raise found.blocked
        self._check_nothing_else(found)
        if not found.files:
            return
        self._compare(found.token, wanted)
        if self._links.follow and self._unlink_links(key):
            return  # what they lead to is the value of another key, too, and stays
        # The file that counts goes last, so that a crash in between does not expose an older one.
        for path, status in reversed(found.files):
            if staging is None:
                self._unlink(path)
            else:
                self._take_away(path, status, staging)
            self.emptied.add(path.rpartition("/")[0])

    def _dated(self, name: str, file: int, metadata: Metadata | None) -> Staged:
        """Give an unfinished file, which is open, its time, and make it durable."""
        now = self._clock_ns()
        if now % _TICK_NS < _EXACT_NS:
            # A file system that keeps whole seconds would seem to keep this time.
            now += _EXACT_NS
        carried = metadata.modified_ns if metadata is not None else None
        modified = now if carried is None else carried
        os.utime(file, ns=(now, modified))
        os.fsync(file)
        status = os.fstat(file)
        # A carried time may be a tick of the kernel's clock, and the tick of a later write, too, if it is not past.
        sure = carried is None or carried < now - COARSE_TICK_NS
        return Staged(name, status, exact=sure and abs(status.st_mtime_ns - modified) < _EXACT_NS)

    def prune(self, removable: Callable[[str], bool]) -> list[str]:
        """Remove the directories that are empty after deletes, as far as they are removable; return those.

        A value beside an empty directory takes its place.
        """
        removed = []
        for path in sorted(self.emptied, key=len, reverse=True):
            removed += self._tree.prune(path, removable)
            removed += self._resettled(path)
        self.emptied.clear()
        return removed

    def _is_no_value(self, path: str) -> bool:
        """Return whether the directory at the path of a key is there in its place, and not for other keys."""
        return not self._tree.holds_files(path)

    def _clear(self, path: str) -> bool:
        """Remove a directory with nothing but directories in it; return whether it is gone."""
        return self._tree.remove_empty(path)

    def _find(self, key: str) -> Found:
        found = Found([], [], {}, None)
        for plain in paths_of(self._naming, key):
            try:
                path = self._links.target(plain)
            except NoValueError as error:
                return found._replace(blocked=error)
            found.paths.append(path)
            status = self._tree.status(path)
            if status is None:
                continue
            if stat.S_ISREG(status.st_mode):
                found.files.append((path, status))
            else:
                found.others[path] = kind_of(status.st_mode)
        return found

    def _check_nothing_else(self, found: Found) -> None:
        """Check that a key without a file has no entry of another kind, where its value may be hidden.

        Raises:
            NoValueError: it has one.
        """
        if found.files:
            return
        for path in found.paths:
            self._tree.check_passable(path.rpartition("/")[0])
            if found.others.get(path, "a directory") != "a directory":
                message = f"{found.others[path]} is at {path!r:.300}"
                raise NoValueError(message)

    def _choose(self, found: Found) -> str:
        """Return the path for a value: its current path, its plain path, or next to the directory of that name."""
        plain = found.paths[0]
        if found.files and found.files[0][0] != plain + VALUE_SUFFIX:
            return found.files[0][0]
        if found.others.get(plain) == "a directory" and self._clear(plain):
            del found.others[plain]
        if plain not in found.others:
            if found.files:  # the directory is gone, so the value gets its plain name back
                self._tree.move(plain + VALUE_SUFFIX, plain)
                status = self._tree.status(plain)
                if status is None:
                    raise ChangedError
                found.files[0] = (plain, status)
            return plain
        if found.others[plain] != "a directory":
            raise KeyBlockedError(f"{found.others[plain]} is at its path {plain!r:.300}")
        if plain + VALUE_SUFFIX in found.others:
            raise KeyBlockedError(f"{found.others[plain + VALUE_SUFFIX]} is at its path {plain + VALUE_SUFFIX!r:.300}")
        return plain + VALUE_SUFFIX

    def _resettled(self, path: str) -> list[str]:
        """Give values beside `path` or its parents their plain names, where those directories are empty now."""
        removed = []
        while path:
            beside = path + VALUE_SUFFIX
            status = self._tree.status(beside) if self._naming.is_suffixed(beside) else None
            if status is not None and stat.S_ISREG(status.st_mode):
                if self._tree.status(path) is not None and not self._clear(path):
                    break
                self._tree.move(beside, path)
                removed.append(path)
            path = path.rpartition("/")[0]
        return removed

    def _compare(self, token: bytes | None, wanted: Wanted) -> None:
        if isinstance(wanted, AnyVersion):
            return
        for _rename in range(len(self._tree.renamed) + 1):
            if token == wanted:
                return
            token = self._tree.renamed.get(token) if token is not None else None
        raise ChangedError

    def _unlink_links(self, key: str) -> bool:
        """Delete the links at the paths of a key; return whether there are any."""
        links = [self._links.place(path) for path in paths_of(self._naming, key) if self._links.is_link(path)]
        for path in links:
            self._unlink(path)
        return bool(links)

    def _take_away(self, path: str, status: os.stat_result, staging: Staging) -> None:
        parent, _, leaf = path.rpartition("/")
        here = self._tree.directory(parent)
        if here is not None:
            remove(staging, here, leaf, status)
            self._tree.touch(parent)

    def _unlink(self, path: str) -> None:
        parent, _, leaf = path.rpartition("/")
        here = self._tree.directory(parent)
        if here is None:
            return
        try:
            os.unlink(leaf, dir_fd=here)
        except FileNotFoundError:
            return
        self._tree.touch(parent)


def _token_in_place(staged: Staged, here: int, leaf: str) -> bytes:
    """Return the token of a file that has just got its final name: that has moved its change time."""
    try:
        status = os.stat(leaf, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return UNKNOWN
    return token_of(status) if staged.exact and content_of(status) == content_of(staged.status) else UNKNOWN
