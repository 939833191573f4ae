"""The command line: `kvsync`, or `python -m kvsync`.

Results go to standard output, everything else to standard error. Each command is one module; this one runs a
command and turns whatever ends it into an exit code.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from kvsync.cli import names
from kvsync.cli.exitcodes import BROKEN_PIPE, DONE, INTERRUPTED, SIGNALLED
from kvsync.cli.output import OutputClosedError, detach_output, prepare_streams, write_line
from kvsync.cli.signals import EndedError, ending_on_signals
from kvsync.cli.verbs import VERBS, version_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["command", "main"]

GARBAGE_COUNT = 50_000
"""The garbage collector looks at what is new each time it is so many objects; most commands make fewer than twice that,
and the default would have it look a hundred times while modules load."""


def command() -> NoReturn:
    """Run one command in a process of its own, and end that."""
    gc.set_threshold(GARBAGE_COUNT)
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)  # the interpreter tries once more, and says what is wrong
    # The system frees what a process had in less time than the interpreter takes it apart.
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    names.forget()
    try:
        with ending_on_signals():
            return _run(tokens)
    except EndedError as error:
        # It came while another error was reported.
        return SIGNALLED + error.number


def _run(tokens: list[str]) -> int:
    try:
        if not _is_arranged(tokens):
            from kvsync.cli.tokens import arranged  # noqa: PLC0415 - few command lines need it

            tokens = arranged(tokens)
        return _dispatch(tokens)
    except EndedError as error:
        return _report(error, tokens, SIGNALLED + error.number)
    except KeyboardInterrupt as error:
        return _report(error, tokens, INTERRUPTED)
    except OutputClosedError:
        detach_output()
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - users see an error, not a traceback
        return _report(error, tokens)


def _is_arranged(tokens: list[str]) -> bool:
    """Whether a command line begins with its command, and names no file of names."""
    return bool(tokens) and tokens[0] in VERBS and not any(token.startswith("--config") for token in tokens)


def _dispatch(tokens: list[str]) -> int:
    if tokens in (["--version"], ["-V"]):
        write_line(sys.stdout, version_text())
        return DONE
    # Imported here, so that Ctrl-C is handled while they load, too.
    from kvsync.cli.plain import call_of  # noqa: PLC0415

    if (call := call_of(tokens)) is not None:
        return call()
    from kvsync.cli.app import app  # noqa: PLC0415 - it is slow to load

    answer = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    return answer if isinstance(answer, int) else 0


def _report(error: BaseException, tokens: list[str], code: int | None = None) -> int:
    """Report an error and return its exit code; a signal's `code` holds even where nobody can read the report."""
    from kvsync.cli.failure import report  # noqa: PLC0415 - most commands do not fail

    try:
        found = report(error, tokens)
    except OutputClosedError:
        detach_output()
        found = BROKEN_PIPE
    return found if code is None else code
