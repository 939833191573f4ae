"""Names, and client libraries' texts, as people read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["escaped", "first_keys", "plain", "shown"]

SHOWN_COUNT: Final = 5
"""An error names so many keys; its attributes list them all."""

# Not compiled here: that would take time in every command, and only errors need them.
_REPLACED = (
    (r"\[?\bErrno -?\d+\]? ", ""),
    (r"\bError -?\d+ connecting to (\S+)\. ", r"cannot connect to \1: "),
    (r"\bError -?\d+ while (\w+ (?:to|from) (?:the )?socket)\. ", r"failed while \1: "),
    (r"Connect call failed \('([^']+)', (\d+)[^)]*\)", r"cannot connect to \1:\2"),
    (r"; nats: no servers available for connection", ""),
    (r"connection failed: (?=connection to server )", ""),
    (r" Is the server running [^?]*\?", ""),
)


def plain(text: str) -> str:
    r"""Return the text of a client library's error on one line, without numbers of system errors.

    >>> plain("Error 111 connecting to localhost:6379. Connection refused.")
    'cannot connect to localhost:6379: Connection refused.'
    >>> plain("connection failed: connection to server at \"::1\", port 1 failed: Connection refused\n\tIs the server "
    ... "running on that host and accepting TCP/IP connections?")
    'connection to server at "::1", port 1 failed: Connection refused'
    """
    text = " ".join(text.split())
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text)
    return text


def escaped(name: bytes, limit: int = 200) -> str:
    r"""Return a name that is not UTF-8 as a text, at most so many characters of it.

    >>> print(escaped(b"bad\xff"))
    bad\xff
    """
    return repr(name)[2:-1][:limit]


def shown(name: str) -> str:
    r"""Return a key or another name in quotation marks, on one line; a backslash stays one.

    >>> print(shown("a\\b"), shown("line\n"), shown(escaped(b"bad\xff")))
    'a\b' 'line\n' 'bad\xff'
    """
    return repr(name).replace("\\\\", "\\")


def first_keys(keys: Sequence[str]) -> str:
    """Return the first keys, and how many more there are.

    >>> first_keys(["a", "b"]), first_keys("abcdefg")
    ("'a', 'b'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    text = ", ".join(repr(key) for key in keys[:SHOWN_COUNT])
    return text if len(keys) <= SHOWN_COUNT else f"{text} and {len(keys) - SHOWN_COUNT} more"
