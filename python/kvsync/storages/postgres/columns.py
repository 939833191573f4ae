"""What the columns of keys and values can store, and how their values are read and written as texts.

A `bytea` stores bytes. Any other column stores texts, in UTF-8: a key or value is the text that PostgreSQL shows for
it, such as `42`, and only a text that comes back unchanged is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["KEY_TYPES", "VALUE_TYPES", "Column"]

KEY_TYPES = frozenset({"bytea", "text", "varchar", "int2", "int4", "int8", "uuid"})
VALUE_TYPES = KEY_TYPES | {"bpchar", "numeric", "bool", "json", "jsonb"}
"""Types whose texts do not depend on the settings of a session, as those of times and floating-point numbers do."""

_PLAIN = frozenset({"text", "varchar"})
_EXACT = frozenset({"bytea", "text", "varchar", "bpchar", "int2", "int4", "int8", "uuid", "json"})
_INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64}

_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]{0,18})\Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Column:
    """What a column can store.

    Attributes:
        kind: the name of its type, or of the type beneath a domain.
        type: that type, for a cast; None where texts need no cast.
        length_max: how many characters a `varchar(n)` or `char(n)` can store; None if unlimited.
    """

    kind: str
    type: str | None = None
    length_max: int | None = None

    @property
    def binary(self) -> bool:
        """Whether it stores bytes, not texts."""
        return self.kind == "bytea"

    @property
    def array(self) -> str:
        """The parameter for an array of its values."""
        if self.binary:
            return "%b::bytea[]"
        return f"%b::text[]::{self.array_type}" if self.type else "%b::text[]"

    @property
    def array_type(self) -> str:
        """The type of such an array."""
        return f"{self.type or ('bytea' if self.binary else 'text')}[]"

    @property
    def plain(self) -> bool:
        """Whether it can store every text without NUL."""
        return self.kind in _PLAIN and self.length_max is None

    @property
    def exact(self) -> bool:
        """Whether it stores what it takes unchanged; otherwise one has to look."""
        return self.kind in _EXACT

    def text(self, column: str) -> str:
        """Return the expression for its text, or its bytes if it is binary."""
        return f"{column}::text" if self.type else column

    def value_bytes(self, column: str) -> str:
        """Return the expression for the bytes of its values."""
        return column if self.binary else f"convert_to({self.text(column)}, 'UTF8')"

    def refuses(self, text: str) -> str | None:
        """Return why a text cannot be stored, or None."""
        if "\0" in text and not self.binary:
            return "a text column cannot hold a NUL character"
        try:
            text.encode()
        except UnicodeEncodeError:
            return "it has a lone surrogate"
        if self.length_max is not None and len(text) > self.length_max:
            # PostgreSQL would silently cut off the excess if it is blanks.
            return f"it is longer than the column's {self.length_max} characters"
        return self._refuses_form(text)

    def refuses_value(self, value: bytes) -> str | None:
        """Return why a value cannot be stored, or None."""
        if self.binary:
            return None
        try:
            return self.refuses(value.decode())
        except UnicodeDecodeError:
            return f"it is not UTF-8, and the value column is {self._shown}"

    @property
    def _shown(self) -> str:
        return self.type or "text"

    def _refuses_form(self, text: str) -> str | None:
        """Return why a text is not the one that PostgreSQL shows for a value of this type."""
        if self.kind == "bpchar" and text.endswith(" "):
            return "it ends with a blank, which a char column drops"
        if bits := _INTEGER_BITS.get(self.kind):
            fits = _INTEGER.match(text) and -(1 << bits - 1) <= int(text) < 1 << bits - 1
            return None if fits else f"the column is {self._shown}: {text!r:.60} is not a number as it shows them (42)"
        if self.kind == "uuid" and not _UUID.match(text):
            return f"the column is uuid: {text!r:.60} is not a UUID as it shows them (in lower case, with hyphens)"
        return None
