"""The command line: `kvsync`, or `python -m kvsync`.

Results go to standard output, everything else to standard error. Each command is one module; this one runs a
command and turns whatever ends it into an exit code.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsync.cli.exitcodes import BROKEN_PIPE, INTERRUPTED, SIGNALLED
from kvsync.cli.failure import report
from kvsync.cli.output import OutputClosedError, detach_output, prepare_streams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["main"]


class _EndedError(BaseException):
    """A signal asked the process to end; it unwinds like Ctrl-C, so that leases are released."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    try:
        try:
            with _ending_on_signals():
                return _dispatch(tokens)
        except _EndedError as error:
            return SIGNALLED + error.number
        except KeyboardInterrupt:
            report(KeyboardInterrupt(), tokens)
            return INTERRUPTED
        except OutputClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - users see an error, not a traceback
            return report(error, tokens)
    except OutputClosedError:
        detach_output()
        return BROKEN_PIPE


def _dispatch(tokens: list[str]) -> int:
    from kvsync.cli.app import app  # noqa: PLC0415 - so that Ctrl-C is handled while it loads, too

    answer = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    return answer if isinstance(answer, int) else 0


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, unless the process already has handlers for them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    raise _EndedError(number)
