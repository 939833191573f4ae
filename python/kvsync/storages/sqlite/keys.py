"""The keys of a table: texts, BLOBs or integers, and how the rows hold them."""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeAlias

from kvsync.errors import UsageError
from kvsync.native import check_key

__all__ = ["INTEGERS", "KeyKind", "Raw", "are_harmless", "integer_of", "is_text", "reserved", "text_of"]

Raw: TypeAlias = str | bytes | int
"""A key as a row holds it."""

_CANONICAL = re.compile(r"(?:0|-?[1-9][0-9]{0,18})\Z", re.ASCII)
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1


INTEGERS = "integers of 64 bits, written as 42 or -7"


class KeyKind(Enum):
    """What the declared type of a key column makes of a new key, in words for people."""

    TEXT = "keys that are UTF-8"
    BLOB = "keys that are UTF-8, as BLOBs"
    INTEGER = INTEGERS

    def new(self, key: str) -> Raw | None:
        """Return a key as a new row holds it; None if it cannot.

        >>> KeyKind.INTEGER.new("42"), KeyKind.INTEGER.new("007"), KeyKind.BLOB.new("42")
        (42, None, b'42')
        """
        if self is KeyKind.INTEGER:
            return integer_of(key)
        if not is_text(key):
            return None
        return key if self is KeyKind.TEXT else key.encode()

    def forms(self, key: str) -> list[Raw]:
        """Return every form in which a row may hold a key."""
        number = integer_of(key)
        numbers: list[Raw] = [] if number is None else [number]
        if self is KeyKind.INTEGER or not is_text(key):
            return numbers
        return [key, key.encode(), *numbers]

    def text(self, raw: object) -> str | None:
        """Return the key that a row holds; None if that cannot be a key."""
        if self is KeyKind.INTEGER and not isinstance(raw, int):
            return None
        return text_of(raw)


def integer_of(text: str) -> int | None:
    """Return the integer that SQLite would write as just this text, if there is one."""
    number = int(text) if _CANONICAL.match(text) else None
    return number if number is not None and _INTEGER_MIN <= number <= _INTEGER_MAX else None


def text_of(raw: object) -> str | None:
    """Return a key that a row holds as text: an integer in its one usual form; None if it cannot be a key."""
    if isinstance(raw, int):
        return str(raw)
    if isinstance(raw, str):
        return raw if is_text(raw) else None
    try:
        return raw.decode() if isinstance(raw, bytes) else None
    except UnicodeDecodeError:
        return None


def is_text(*keys: str) -> bool:
    """Whether keys have a UTF-8 encoding."""
    try:
        "".join(keys).encode()
    except UnicodeEncodeError:
        return False
    return True


def are_harmless(keys: list[str]) -> bool:
    """Whether keys are in ASCII, and nothing in them resembles the name of the index."""
    together = "\n".join(keys)
    return together.isascii() and "kvsync" not in together.lower()


def reserved(keys: list[str]) -> set[str]:
    """Return those of some keys that some file system would take for the index."""
    if are_harmless(keys):
        return set()
    return {key for key in keys if _is_reserved(key)}


def _is_reserved(key: str) -> bool:
    try:
        check_key(key)
    except UsageError:
        return True
    return False
