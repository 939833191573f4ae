"""The sign of life that a supervisor looks at."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from kvsync.errors import UsageError
from kvsync.storages.path import is_within
from kvsync.storages.url import scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.storages import Target

__all__ = ["IDLE_SECONDS", "Heartbeat", "heartbeat_of"]

IDLE_SECONDS = 10.0
"""How often a watch that has nothing to do gives a sign of life."""


class Heartbeat:
    """Gives a sign of life after each run, and every `IDLE_SECONDS` in between.

    Args:
        beat: gives it; None: nobody looks.
    """

    def __init__(self, beat: Callable[[], None] | None) -> None:
        self._beat = beat
        self.next_idle = math.inf if beat is None else -math.inf

    def touch(self, now: float) -> None:
        """Give a sign of life."""
        if self._beat is not None:
            self._beat()
            self.next_idle = now + IDLE_SECONDS

    def idle(self, now: float) -> None:
        """Give a sign of life if it is time."""
        if now >= self.next_idle:
            self.touch(now)


def heartbeat_of(heartbeat: str | os.PathLike[str] | Callable[[], None] | None, targets: Sequence[Target]) -> Heartbeat:
    """Return what gives a sign of life as the caller wants it.

    Raises:
        UsageError: the file cannot be written, or is within a folder that is watched, where it would be a change.
    """
    if heartbeat is None or callable(heartbeat):
        return Heartbeat(heartbeat)
    path = os.fspath(heartbeat)
    for target in targets:
        if not isinstance(target, str | os.PathLike):
            continue
        folder = os.fspath(target)
        folder = folder.removeprefix("file://") if scheme_of(folder) == "file" else folder
        if scheme_of(folder) is None and is_within(path, folder):
            message = f"the heartbeat file {path!r} is within {folder!r}, so each touch would be a change: name another"
            raise UsageError(message)
    try:
        _touch(path)
    except OSError as error:
        message = f"the heartbeat file {path!r} cannot be written ({error.strerror}): name another one"
        raise UsageError(message) from error
    return Heartbeat(partial(_try_touch, path))


def _touch(path: str) -> None:
    with open(path, "ab"):
        os.utime(path)


def _try_touch(path: str) -> None:
    """Touch a file; what is wrong with it shows by its age."""
    with suppress(OSError):
        _touch(path)
