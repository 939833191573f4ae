"""SIGTERM and SIGHUP: they unwind a run as Ctrl-C does, so that it releases its leases and says what happened."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["EndedError", "ending_on_signals"]

NAMES = ("SIGTERM", "SIGHUP")


class EndedError(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def signal(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.number).name


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let the first signal raise `EndedError`, unless the process already has handlers for them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, _frame: FrameType | None) -> None:
        for each in ours:
            # A second one would cut off the release of the leases.
            signal.signal(each, signal.SIG_IGN)
        raise EndedError(number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
