"""Commands of thousands of words, encoded as Redis reads them.

The client library's own packer joins word by word and sends every few thousand bytes separately. For an MSET of a
thousand values that takes most of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CommandPacker"]

Word: TypeAlias = "bytes | str | int | float"

PIECE_BYTES = 64 << 10
"""Longer words are sent by themselves instead of being copied."""

_END = b"\r\n"
_HEADS = [b"$%d" % size for size in range(1024)]


class CommandPacker:
    """A `command_packer` for `redis.Connection`."""

    def pack(self, *words: Word) -> list[bytes]:
        r"""Return the command in pieces, to be sent one after another.

        >>> CommandPacker().pack("SET", "é", 1)
        [b'*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$1\r\n1\r\n']
        """
        first, *rest = words
        # The library itself writes some commands as two words, such as "CLIENT SETINFO".
        plain = _plain(first).split()
        plain += [word if type(word) is bytes else _plain(word) for word in rest]
        sizes = list(map(len, plain))
        pieces: list[bytes] = []
        lines = [b"*%d" % len(plain)]
        start = 0
        if max(sizes) > PIECE_BYTES:
            for i in [i for i, size in enumerate(sizes) if size > PIECE_BYTES]:
                lines += _lines(plain[start:i], sizes[start:i])
                pieces += [_END.join([*lines, b"$%d" % sizes[i], b""]), plain[i]]
                lines = [b""]
                start = i + 1
        lines += _lines(plain[start:], sizes[start:])
        return [*pieces, _END.join([*lines, b""])]


def _lines(words: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
    """Return each word, preceded by its length."""
    lines = [b""] * (2 * len(words))
    lines[0::2] = [_HEADS[size] if size < len(_HEADS) else b"$%d" % size for size in sizes]
    lines[1::2] = words
    return lines


def _plain(word: Word) -> bytes:
    if isinstance(word, bytes):
        return word
    if isinstance(word, str):
        return word.encode()
    if type(word) is int or type(word) is float:
        return repr(word).encode()
    message = f"a command has a word of type {type(word).__name__}"
    raise TypeError(message)
