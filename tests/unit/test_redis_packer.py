"""Our packer of Redis commands beside the client library's own."""

from __future__ import annotations

import random
from typing import Any

import pytest
from redis.connection import Connection

from kvsync.storages.redis.packer import PIECE_BYTES, CommandPacker

SIZES = [0, 1, 1023, 1024, 6000, 6001, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES]


def theirs(*words: bytes | str | float) -> bytes:
    """Return what the library would send."""
    connection: Any = Connection()  # type: ignore[no-untyped-call]
    return b"".join(connection.pack_command(*words))


def test_sends_what_the_library_sends() -> None:
    """Words of all types and sizes, in any order."""
    chance = random.Random(5)
    for _ in range(300):
        words: list[bytes | str | float] = [chance.randbytes(chance.choice(SIZES)) for _ in range(chance.randrange(8))]
        others: list[bytes | str | float] = ["é", 7, -1, 2.5, ""]
        words += others[: chance.randrange(6)]
        chance.shuffle(words)
        for name in ("MSET", b"MSET", "CLIENT SETINFO", b"CONFIG GET"):
            pieces = CommandPacker().pack(name, *words)
            assert b"".join(pieces) == theirs(name, *words)
            assert all(len(piece) <= len(words) * (PIECE_BYTES + 16) + 64 or piece in words for piece in pieces)


def test_large_words_are_not_copied() -> None:
    """A value of many megabytes is sent as the object that it is."""
    large = bytes(PIECE_BYTES + 1)
    assert any(piece is large for piece in CommandPacker().pack("SET", "key", large))


@pytest.mark.parametrize("word", [None, True, b"x".__class__, [b"x"]], ids=str)
def test_refuses_what_is_no_word(word: object) -> None:
    """What has no plain form must not reach a server as its repr."""
    with pytest.raises(TypeError):
        CommandPacker().pack("SET", "key", word)  # type: ignore[arg-type]
