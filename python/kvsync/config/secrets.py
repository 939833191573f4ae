"""Values of the file that lie elsewhere: in the environment, or in what a command prints."""

from __future__ import annotations

import os
import re

from kvsync.errors import UsageError

__all__ = ["expanded", "printed_by"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)


def expanded(text: str, whose: str) -> str:
    """Return a text of the file with each `${VARIABLE}` replaced by its value; `whose` text it is, for messages.

    Raises:
        UsageError: a variable is not set, or empty.
    """

    def value(found: re.Match[str]) -> str:
        if value := os.environ.get(found[1], ""):
            return value
        message = f"the environment variable {found[1]}, which {whose} needs, is not set"
        raise UsageError(message)

    return _VARIABLE.sub(value, text)


def printed_by(command: object, folder: str, whose: str) -> str:
    """Run a command in `folder`, without a shell, and return the first line that it prints.

    Raises:
        UsageError: it is no command, cannot be run, fails, or prints nothing.
    """
    import shlex  # noqa: PLC0415 - few files name a command
    import subprocess  # noqa: PLC0415

    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        message = f"{whose} must be a command: a text, or a list of its words"
        raise UsageError(message)
    try:
        # It may ask for a passphrase: its other streams are ours.
        ended = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, check=False)  # noqa: S603 - the user's own
    except OSError as error:
        message = f"the command {words[0]!r} of {whose} cannot be run: {error.strerror}"
        raise UsageError(message) from error
    line = ended.stdout.decode(errors="replace").partition("\n")[0].rstrip("\r")
    if ended.returncode or not line:
        what = f"failed with exit code {ended.returncode}" if ended.returncode else "printed nothing"
        message = f"the command {words[0]!r} of {whose} {what}"
        raise UsageError(message)
    return line
