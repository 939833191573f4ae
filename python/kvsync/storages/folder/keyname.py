"""The paths of keys: which file of a folder holds the value of which key.

An ordinary key is its own path: `user/1` is stored in `user/1`. A key that cannot be a path is quoted: `..`
becomes `.%2E`. Every path that a folder can have is the path of some key, and two keys never share a path:

- `quote` maps any key to a path. It is injective, and `_unquote` reverses it.
- A key is **special** if it cannot be a path (an empty component, `.`, `..`, NUL, a component of more than 255
  bytes, `.kvsync` as its first component), or is not portable (control characters, backslashes, a dot or a space at
  the end of a component, a device name of Windows, `%value` at the end of a component). A key is also special if it
  looks exactly like the quoted form of a special key.
- `encode` quotes a special key and leaves all others unchanged. `decode` unquotes a path if it is the quoted form of
  a special key, and leaves all others unchanged. So `100%.txt`, `a%20b` and `%41` are their own paths, and only
  `.%2E` is not: the key `.%2E` is stored in `.%252E`.

In two cases a value is stored elsewhere, so `paths` returns every path where it may be:

- If a directory has the path of a key (`a`, because of `a/b`), the value is stored next to it, in `a%value`.
- A file whose name is merely not portable, and that exists already, is found under that name and keeps it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from kvsync.storages.contract import RESERVED

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NAME_BYTES_MAX", "VALUE_SUFFIX", "Naming", "has_reserved", "is_reserved", "quote"]

VALUE_SUFFIX = "%value"
"""Ends the name of a file whose own name is taken by a directory."""

NAME_BYTES_MAX = 255
CHUNK_BYTES = 200  # of a component that is too long for one name
MORE = "%+"  # ends every chunk but the last, and begins every chunk but the first

_DEVICE = r"(?:CON|PRN|AUX|NUL|COM[0-9¹²³]|LPT[0-9¹²³]|CONIN\$|CONOUT\$) *(?:[./]|\Z)"
_device = re.compile(_DEVICE, re.IGNORECASE)
_device_in = re.compile(rf"/{_DEVICE}", re.IGNORECASE)
_MARKS = ("%", "\\", "./", " /", "//")  # what makes an ASCII path special, beside its devices and lengths
# The same rules for a whole path at once. Most paths pass this test, and then need no other.
_not_portable = re.compile(
    rf"[\x00-\x1f\x7f\\]|(?:[. ]|{VALUE_SUFFIX})(?:/|\Z)|(?:\A|/)(?:/|\Z|{_DEVICE})",
    re.IGNORECASE,
)
_to_quote = re.compile(r"[%\x00-\x1f\x7f\\]|[. ]\Z")
_escape = re.compile(rb"%([0-9A-F]{2})")


def is_reserved(component: str) -> bool:
    """Return whether a first component is `.kvsync`, or some file system takes it for that.

    >>> is_reserved(".kvsync"), is_reserved(".KVsync"), is_reserved(".kvsync2")
    (True, True, False)
    """
    if component == RESERVED:
        return True
    if component.isascii():
        return component.rstrip(". ").lower() == RESERVED
    # Some file systems drop format characters, such as the zero width joiner, and fold lookalikes.
    visible = "".join(c for c in component if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", visible).casefold().rstrip(". ") == RESERVED


def has_reserved(key: str) -> bool:
    """Return whether any component of a key is `.kvsync`, or some file system takes it for that.

    >>> has_reserved("inner/.kvsync/manifest"), has_reserved("inner/x.kvsync")
    (True, False)
    """
    if key.isascii() and RESERVED not in key.lower():
        return False
    return any(is_reserved(part) for part in key.split("/"))


def quote(key: str, *, ascii_only: bool = False) -> str:
    """Return the quoted form of a key: a portable path that no other key has.

    >>> quote("../CON/"), quote("100%")
    ('.%2E/%43ON/%', '100%25')
    """
    parts = key.split("/")
    names: list[str] = []
    for position, part in enumerate(parts):
        names += _quote_component(part, first=position == 0, ascii_only=ascii_only)
    return "/".join(names)


def _quote_component(part: str, *, first: bool, ascii_only: bool) -> list[str]:
    if not part:
        return ["%"]
    quoted = _to_quote.sub(lambda found: f"%{ord(found[0]):02X}", part)
    if ascii_only and not quoted.isascii():
        quoted = "".join(c if c.isascii() else _percent(c) for c in quoted)
    if (first and is_reserved(part)) or _device.match(part):
        quoted = _percent(part[0]) + quoted[len(part[0]) :] if quoted[0] == part[0] else quoted
    if len(quoted.encode()) <= NAME_BYTES_MAX:
        return [quoted]
    chunks = _chunks(quoted)
    return [chunks[0] + MORE, *(MORE + chunk + MORE for chunk in chunks[1:-1]), MORE + chunks[-1]]


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _chunks(quoted: str) -> list[str]:
    chunks, start, size = [], 0, 0
    pieces = re.findall(r"%[0-9A-F]{2}|.", quoted, re.DOTALL)  # cuts neither escapes nor characters
    for position, piece in enumerate(pieces):
        width = len(piece.encode())
        if size + width > CHUNK_BYTES:
            chunks.append("".join(pieces[start:position]))
            start, size = position, 0
        size += width
    return [*chunks, "".join(pieces[start:])]


def _unquote(path: str) -> str | None:
    """Return a key whose quoted form may be `path`; the caller quotes it again and compares."""
    parts, pending = [], ""
    for name in path.split("/"):
        if pending and not name.startswith(MORE):
            return None
        piece = name[len(MORE) :] if pending else name
        if piece.endswith(MORE):
            pending += piece[: -len(MORE)]
        else:
            parts.append(pending + ("" if piece == "%" else piece))
            pending = ""
    if pending:
        return None
    quoted = "/".join(parts).encode()
    try:
        return _escape.sub(lambda found: bytes.fromhex(found[1].decode()), quoted).decode()
    except UnicodeDecodeError:
        return None


class Naming(NamedTuple):
    """The naming rules of one file system.

    Attributes:
        normalises: the file system changes the Unicode form of names, so only names that it keeps unchanged are paths.
        folds: the file system treats names as equal that differ in case or Unicode form. No naming rule helps there:
            the folder compares names itself, and refuses a key that would share another key's file.
    """

    normalises: bool = False
    folds: bool = False

    def encode(self, key: str) -> str:
        """Return the path of a key.

        >>> Naming().encode("MixedCase.TXT"), Naming().encode("a//b"), Naming().encode("")
        ('MixedCase.TXT', 'a/%/b', '%')
        """
        return self.quote(key) if self.is_special(key) else key

    def decode(self, path: str) -> str:
        """Return the key whose value is stored at a path; every path of a folder has one.

        >>> Naming().decode(".%2E/x"), Naming().decode("100%.txt"), Naming().decode("a%value")
        ('../x', '100%.txt', 'a')
        """
        if "%" not in path:
            return path
        if self.is_suffixed(path):
            path = path[: -len(VALUE_SUFFIX)]
        key = self._origin(path)
        return key if key is not None and self.is_special(key) else path

    def paths(self, key: str) -> list[str]:
        """Return every path where the value of a key may be; a new value goes to the first.

        >>> Naming().paths("a"), Naming().paths("aux.c")
        (['a', 'a%value'], ['%61ux.c', 'aux.c', '%61ux.c%value', 'aux.c%value'])
        """
        if not self.is_special(key):
            return [key, key + VALUE_SUFFIX]
        quoted = self.quote(key)
        # The key is also a path of its own, unless that path means another key.
        if self.is_path(key) and self.decode(key) == key and not self.is_suffixed(key):
            return [quoted, key, quoted + VALUE_SUFFIX, key + VALUE_SUFFIX]
        return [quoted, quoted + VALUE_SUFFIX]

    def quote(self, key: str) -> str:
        """Return the quoted form of a key under these rules."""
        return quote(key, ascii_only=self.normalises)

    def is_special(self, key: str) -> bool:
        """Return whether a key is stored under its quoted form."""
        while True:
            if not self._is_portable(key):
                return True
            if "%" not in key:
                return False
            origin = self._origin(key)
            if origin is None:
                return False
            key = origin

    def are_plain(self, names: Sequence[str]) -> bool:
        """Return whether paths made of these components are keys under their own names; False if that is not sure.

        This asks once for a whole directory.

        >>> Naming().are_plain(["src/lib", "a.b"]), Naming().are_plain(["src", "100%"]), Naming().are_plain(["é"])
        (True, False, False)
        """
        path = f"/{'/'.join(names)}/"
        if not (path.isascii() and path.isprintable()) or RESERVED in path.lower():
            return False
        if any(mark in path for mark in _MARKS) or _device_in.search(path):
            return False
        return max(map(len, path.split("/"))) <= NAME_BYTES_MAX

    def is_path(self, path: str) -> bool:
        """Return whether a folder can have this path."""
        names = path.split("/")
        if "\0" in path or names[0] == RESERVED or not self._is_kept(path):
            return False
        if self.folds and is_reserved(names[0]):
            return False
        return all(name not in {"", ".", ".."} and _fits(name) for name in names)

    def is_suffixed(self, path: str) -> bool:
        """Return whether a path is that of a value next to the directory of its name."""
        count = 0
        while path.endswith(VALUE_SUFFIX) and self.is_path(path[: -len(VALUE_SUFFIX)]):
            path = path[: -len(VALUE_SUFFIX)]
            count += 1
        return count % 2 == 1

    def _origin(self, path: str) -> str | None:
        key = _unquote(path)
        return key if key is not None and key != path and self.quote(key) == path else None

    def _is_portable(self, key: str) -> bool:
        if not key or _not_portable.search(key) or not self._is_kept(key):
            return False
        if len(key) * 4 > NAME_BYTES_MAX and not all(_fits(name) for name in key.split("/")):
            return False
        first = key.partition("/")[0]
        # Only these can fold to `.kvsync`: an ASCII name that begins with a dot, or one that is not ASCII.
        return not ((key[0] == "." or not first.isascii()) and is_reserved(first))

    def _is_kept(self, name: str) -> bool:
        return not self.normalises or name.isascii() or unicodedata.is_normalized("NFD", name)


def _fits(name: str) -> bool:
    return len(name) * 4 <= NAME_BYTES_MAX or len(name.encode()) <= NAME_BYTES_MAX
