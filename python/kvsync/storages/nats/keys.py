"""The names of keys in a NATS bucket, which allows only letters, digits, `-`, `/`, `_`, `=` and inner dots.

A key that is a valid name is its own name: `user/1` is `user/1`. Any other is quoted: `caf\u00e9` is `caf=C3=A9`.
Every name that a bucket can hold is the name of some key, and two keys never share one:

- `quote` maps any key to a name; it is injective, and `unquote` reverses it.
- A key is **special** if it is not a valid name, or would be among the index objects, or looks exactly like the quoted
  form of a special key.
- `encode` quotes a special key and leaves all others unchanged; `decode` reverses both. So `YWJj==` is its own name,
  and the key `=3D` has the name `=3D3D`.

The names of index objects begin with `=kvsync.`, which no quoted key does: a quoted `=` is `=3D`.
"""

from __future__ import annotations

import re

__all__ = ["INDEX", "decode", "encode", "is_name", "quote", "token", "unquote"]

INDEX = "=kvsync."
"""Begins the names of everything that is not a value."""

_name = re.compile(r"[-/_=a-zA-Z0-9]+(?:\.[-/_=a-zA-Z0-9]+)*\Z")
_ordinary = re.compile(r"[-/_a-zA-Z0-9]+(?:\.[-/_a-zA-Z0-9]+)*\Z")
_to_quote = re.compile(r"[^-/_.a-zA-Z0-9]|(?:\A|(?<=\.))\.|\.\Z")
_escape = re.compile(rb"=([0-9A-F]{2})")


def is_name(text: str) -> bool:
    """Return whether a bucket can hold this name."""
    return _name.match(text) is not None


def quote(key: str) -> str:
    """Return the quoted form of a key: a valid name that no other key has.

    >>> quote("a b"), quote(".."), quote("")
    ('a=20b', '=2E=2E', '=')

    Raises:
        UnicodeEncodeError: the key has a lone surrogate.
    """
    return _to_quote.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), key) or "="


def unquote(name: str) -> str | None:
    """Return a key whose quoted form may be `name`; None if there can be none.

    >>> unquote("a=20b"), unquote("="), unquote("=FF")
    ('a b', '', None)
    """
    if name == "=":
        return ""
    try:
        return _escape.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode()).decode()
    except UnicodeDecodeError:
        return None


def token(name: str) -> str:
    """Return the name of an index object as one token of a subject, without dots.

    >>> token("segment/1.5")
    'segment/1=2E5'
    """
    return quote(name).replace(".", "=2E")


def encode(key: str) -> str:
    """Return the name of a key.

    >>> encode("user/1.json"), encode("a=b"), encode("=3D"), encode("=kvsync.x")
    ('user/1.json', 'a=b', '=3D3D', '=3Dkvsync.x')

    Raises:
        UnicodeEncodeError: the key has a lone surrogate.
    """
    if _ordinary.match(key) or not _is_special(key):
        return key
    return quote(key)


def decode(name: str) -> str:
    """Return the key of a valid name outside the index; every such name has a key.

    >>> decode("a=20b"), decode("YWJj=="), decode("=")
    ('a b', 'YWJj==', '')
    """
    if "=" not in name:
        return name
    origin = _origin(name)
    return origin if origin is not None and _is_special(origin) else name


def _is_special(key: str) -> bool:
    while True:
        if not is_name(key) or key.startswith(INDEX):
            return True
        if "=" not in key:
            return False
        origin = _origin(key)
        if origin is None:
            return False
        key = origin


def _origin(name: str) -> str | None:
    """Return the key of which `name` is the quoted form, or None."""
    key = unquote(name)
    return key if key is not None and key != name and quote(key) == name else None
