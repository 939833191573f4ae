r"""The names of objects: which object of a bucket holds the value of which key.

An ordinary key is the name of its object, so that other tools find `user/1` at `user/1`. A key that a bucket, or
something on the way to it, would confuse with another one is quoted: `..` becomes `.%2E`.

- `_quote` maps any key to a name. It is injective, and `_unquote` reverses it.
- A key is **special** if it is not safe as a name: an empty component (clients drop slashes at the ends, servers
  drop doubled ones), `.`, `..`, a control character, a backslash (a slash to some servers), U+FFFE or U+FFFF
  (not allowed in XML), or `.kvsync` as its first component. A key is also special if it looks exactly like the
  quoted form of a special key.
- Azure drops a dot at the end of a component (`dots=False`). There, such a component is special too, and `a.`
  becomes `a%2E`.
- `encode` quotes a special key and leaves all others unchanged; `decode` reverses that. So `100%.txt`, `a%20b` and
  `%41` are their own names, and only `.%2E` is not: the key `.%2E` is stored at `.%252E`.

A name that is not safe belongs to no key: it is an object of another program, such as the marker `a/` of a folder.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvsync.storages.contract import RESERVED

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NAME_BYTES_MAX", "are_keys", "decode", "encode", "is_safe"]

NAME_BYTES_MAX = 1024
"""The limit of a whole name with the prefix, of S3 and GCS, and of Azure for ASCII."""

_UNSAFE_CHARACTER = r"[\x00-\x1f\x7f\\\ufffe\uffff]"
_unsafe = re.compile(rf"{_UNSAFE_CHARACTER}|(?:\A|/)\.{{0,2}}(?:/|\Z)|\A{re.escape(RESERVED)}(?:/|\Z)")
_dotted = re.compile(r"\.(?:/|\Z)")
_to_quote = re.compile(rf"%|{_UNSAFE_CHARACTER}")
_escape = re.compile(rb"%([0-9A-F]{2})")


def is_safe(name: str, *, dots: bool = True) -> bool:
    """Return whether clients and servers keep a name unchanged; `dots`: a component may end with a dot.

    >>> is_safe("user/1"), is_safe("a//b"), is_safe("a/"), is_safe(".."), is_safe("a.", dots=False)
    (True, False, False, False, False)
    """
    return _unsafe.search(name) is None and (dots or _dotted.search(name) is None)


def encode(key: str, *, dots: bool = True) -> str:
    """Return the name of a key's object.

    >>> encode("MixedCase.TXT"), encode("a//b"), encode(""), encode("100%"), encode("a./b", dots=False)
    ('MixedCase.TXT', 'a/%/b', '%', '100%', 'a%2E/b')
    """
    return _quote(key, dots=dots) if _is_special(key, dots=dots) else key


def decode(name: str, *, dots: bool = True) -> str | None:
    """Return the key whose value an object holds, or None if it belongs to no key.

    >>> decode(".%2E/x"), decode("100%.txt"), decode("a/")
    ('../x', '100%.txt', None)
    """
    if not is_safe(name, dots=dots):
        return None
    if "%" not in name:
        return name
    key = _origin(name, dots=dots)
    return key if key is not None and _is_special(key, dots=dots) else name


def are_keys(names: Sequence[str], *, dots: bool = True) -> bool:
    """Return whether some names are clearly those of the equal keys, and none of them of an index.

    >>> are_keys(["a", "b/c", "d"]), are_keys(["a", "a//b"]), are_keys(["a%20b"]), are_keys(["a/.kvsync/b"])
    (True, False, False, False)
    """
    # As one text, which is looked through much faster than all of them.
    text = "/".join(["", *names, ""])
    doubtful = ("//", "/./", "/../", "\\", "%", RESERVED) if dots else ("//", "./", "\\", "%", RESERVED)
    return text.isprintable() and not any(part in text for part in doubtful)


def _is_special(key: str, *, dots: bool) -> bool:
    while True:
        if not is_safe(key, dots=dots):
            return True
        if "%" not in key:
            return False
        origin = _origin(key, dots=dots)
        if origin is None:
            return False
        key = origin  # shorter than before, so this ends


def _origin(name: str, *, dots: bool) -> str | None:
    """Return the key whose quoted form is `name`, if there is one."""
    key = _unquote(name)
    return key if key is not None and key != name and _quote(key, dots=dots) == name else None


def _quote(key: str, *, dots: bool) -> str:
    parts = [_quote_component(part, dots=dots) for part in key.split("/")]
    if parts[0] == RESERVED:
        parts[0] = "%2E" + parts[0][1:]
    return "/".join(parts)


def _quote_component(part: str, *, dots: bool) -> str:
    if not part:
        return "%"
    quoted = _to_quote.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), part)
    if part in {".", ".."} or (part.endswith(".") and not dots):
        return quoted[:-1] + "%2E"
    return quoted


def _unquote(name: str) -> str | None:
    plain = "/".join("" if part == "%" else part for part in name.split("/")).encode()
    try:
        return _escape.sub(lambda found: bytes.fromhex(found[1].decode()), plain).decode()
    except UnicodeDecodeError:
        return None
