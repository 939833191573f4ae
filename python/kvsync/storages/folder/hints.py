"""Notice changes in a folder: by the events of the operating system, which the package `watchfiles` brings.

A network mount has no events for what other machines write, so there a scan is due now and then, too.
"""

from __future__ import annotations

import os
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kvsync.storages.contract import RESERVED
from kvsync.storages.hints import NoHintsError, file_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.hints import Wake

__all__ = ["FolderHints"]

POLL_SECONDS = 1.0
"""How often we look whether the folder is still the one that is watched."""

STEP_MS = 30
"""How often watchfiles looks for new events: it holds events back until none came for one such step."""

BUSY_STEP_MS = 10
BUSY_SECONDS = 2.0
"""For so long after an event, more of them are likely, and are looked for more often."""

TIMEOUT_MS = 500
STOP_SECONDS = 2.0

NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "prl_fs", "smb3"}
    | {"smbfs", "vboxsf", "virtiofs", "vmhgfs"}
)
"""File systems that may change without an event here, beside all of FUSE."""

MISSING = "the package watchfiles is missing (pip install 'kvsync[watch]')"


class FolderHints:
    """Notices changes in a folder, which may not exist yet.

    Args:
        path: its absolute path.
        key_at: returns the key of a path, or None.
        wake: called with each key that may have changed.

    Raises:
        NoHintsError: watchfiles is missing, or the system allows no further watches.
    """

    poll_seconds = POLL_SECONDS

    def __init__(self, path: str, key_at: Callable[[str], str | None], wake: Wake) -> None:
        if find_spec("watchfiles") is None:
            raise NoHintsError(MISSING)
        self._path = path
        self._key_at = key_at
        self._wake = wake
        self._watching: _Watching | None = None
        self.complete, self.reason = True, ""
        self._seen = file_identity(self._path)
        self._watch()
        if self._seen is not None and self._watching is None:
            raise NoHintsError(self.reason)

    def poll(self) -> bool:
        """Return whether another folder is at the path now, which is watched from then on, or the watch has failed."""
        seen = file_identity(self._path)
        if seen != self._seen:
            self._seen = seen
            self._watch()
            return True
        if self._watching is None or self._watching.is_alive():
            return False
        # Not again before the folder is opened anew: what failed once may fail each time.
        self.complete, self.reason = False, f"the system watches it no longer ({self._watching.error})"
        self.close()
        return True

    def close(self) -> None:
        """End the thread."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.stop()

    def _watch(self) -> None:
        self.close()
        if self._seen is None:
            return
        kind = file_system_of(self._path)
        is_remote = kind in NETWORK or kind.startswith("fuse")
        self.complete = not is_remote
        self.reason = (
            f"it is on a network mount ({kind}), which has no events for what others write" if is_remote else ""
        )
        try:
            self._watching = _Watching(os.path.realpath(self._path), self._hear)
        except (OSError, ImportError) as error:
            self.complete, self.reason = False, f"the system does not watch it ({error})"
        else:
            self._watching.start()

    def _hear(self, path: str) -> None:
        self._wake(self._key_at(path))


class _Watching(threading.Thread):
    """Waits for the events of one directory and all below it.

    Raises:
        OSError: the system refuses.
    """

    def __init__(self, root: str, hear: Callable[[str], None]) -> None:
        super().__init__(name="kvsync-folder-hints", daemon=True)
        # Not `watchfiles.watch`: that looks for events equally often all the time.
        from watchfiles._rust_notify import RustNotify  # noqa: PLC0415 - only here

        self.error: Exception | None = None
        self._index = os.path.join(root, RESERVED)
        self._hear = hear
        self._ends = threading.Event()
        self._notify: Any = RustNotify([root], False, False, 0, True, True)  # noqa: FBT003 - it takes no names

    def run(self) -> None:
        """Report the paths that change, until `stop`."""
        below = os.path.join(self._index, "")
        try:
            changed = float("-inf")
            while not self._ends.is_set():
                step = BUSY_STEP_MS if time.monotonic() - changed < BUSY_SECONDS else STEP_MS
                changes = self._notify.watch(step, step, TIMEOUT_MS, self._ends)
                if isinstance(changes, str):
                    continue
                changed = time.monotonic()
                for _, path in changes:
                    if path != self._index and not path.startswith(below):
                        self._hear(path)
        except Exception as error:  # noqa: BLE001 - the next poll finds that this thread has ended
            self.error = error

    def stop(self) -> None:
        """End."""
        self._ends.set()
        self.join(STOP_SECONDS)
        self._notify.close()


def file_system_of(path: str) -> str:
    """Return the kind of file system that a path is on, as Linux calls it; empty where that cannot be told."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [_mount(line) for line in file]
    except OSError:
        return ""
    real = os.path.join(os.path.realpath(path), "")
    around = [mount for mount in mounts if real.startswith(os.path.join(mount[0], ""))]
    return max(around, key=lambda mount: len(mount[0]))[1] if around else ""


def _mount(line: str) -> tuple[str, str]:
    """Return where something is mounted, and the kind of its file system."""
    before, _, after = line.partition(" - ")
    point = before.split()[4]
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point, after.split()[0]
