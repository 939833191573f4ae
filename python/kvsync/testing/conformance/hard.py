"""Keys, values and sizes that are hard on a storage."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from kvsync.native import digest_values

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HARD_KEYS", "HARD_VALUES", "SIZES", "brief", "value_of"]

SIZES = [1, 100_000, (1 << 20) + 1]
"""Storages put large values elsewhere: sizes below and above the usual limits."""


@cache
def value_of(size: int, number: int = 0) -> bytes:
    """Return a value of `size` bytes, no part of which occurs twice; another one for each number.

    >>> value_of(10), value_of(6, 1)
    (b'0000000000', b'100000')
    """
    rows = (b"%d%015d" % (number, row) for row in range(size // 16 + 1))
    return b"".join(rows)[:size]


def brief(values: Iterable[object]) -> list[object]:
    """Return values to compare; a long one by its size and digest, since pytest takes seconds to show how two differ.

    >>> brief([b"1", None])
    [b'1', None]
    """
    return [_brief(value) if isinstance(value, bytes) and len(value) > 99 else value for value in values]


def _brief(value: bytes) -> str:
    return f"{len(value)} bytes, {digest_values([value])[0].hex()}"


HARD_VALUES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "line ends": b"a\r\nb\nc\rd\x1a\r\n",
    "no text": b"\xff\xfe\x00\x00\x80",
    "a mebibyte": bytes(range(256)) * 4096,
}

HARD_KEYS = [
    *("", " ", "a b", " a", "a ", ".", "..", "...", ".hidden", "a.", "a.."),
    *("/", "//", "/a", "a/", "a//b", "./a", "a/.", "../a", "a/../b", "/etc/passwd", "../../../../etc/passwd"),
    *(
        "\0",
        "a\0b",
        "\x01",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "\x7f",
        "a\\b",
        "..\\a",
        "C:\\a",
        "C:/a",
        "\\\\host\\a",
    ),
    *("x" * 255, "x" * 256, "x" * 1024, "/".join("x" * 8 for _ in range(113)), "é" * 512, "%" * 300),
    *(
        "😀",
        "👩\u200d👩\u200d👧",
        "caf\u00e9",
        "cafe\u0301",
        "\u1e9b\u0323",
        "Å",
        "\u212b",
        "\U0010ffff",
        "\ufeffa",
    ),
    *("MixedCase.TXT", "mixedcase.txt", "MIXEDCASE.TXT", "straße", "STRASSE", "İ", "i\u0307", "\u0131"),
    *("CON", "con", "aux.c", "NUL", "nul.tar.gz", "COM1", "lpt9.txt", "COM¹", "a/CON/b", "CONIN$", "clock$"),
    *(
        "%",
        "%%",
        "100%",
        "100%.txt",
        "a%20b",
        "%2E",
        "%2e",
        "%252E",
        ".%2E",
        ".%252E",
        "%2F",
        "%00",
        "%value",
    ),
    *(
        "a%value",
        "a%value%value",
        "a%25value",
        "a%value/b",
        "%+",
        "x%+",
        "%+x",
        "x" * 200 + "%+/" + "%+" + "x" * 100,
    ),
    *(
        "a:b",
        'a"b',
        "a*b?",
        "<a>|b",
        "a'b",
        "a;b",
        "--",
        "-rf",
        "~",
        "$HOME",
        "`id`",
        "{a}",
        "[a-z]*",
        "#a",
        "?a=b",
    ),
    *("lock", "tmp", "tmp/a", "kvsync", "kv", "a/b/c/d/e", "a/b.c", "a/b", "a.b", "a-b", "a0b", "a"),
]
