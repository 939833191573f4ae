"""msgpack by hand, so that tests can write every form of a value, and objects that no encoder would."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import zstandard

import reference

Choose: TypeAlias = Callable[[Sequence[bytes]], bytes]
"""Picks one of several encodings of the same value."""

Entries: TypeAlias = list[tuple[Any, Any]]
"""A map as its entries, so that a key can come twice or out of order."""

INTEGER_FORMS = (
    (0xCC, ">B"),
    (0xCD, ">H"),
    (0xCE, ">I"),
    (0xCF, ">Q"),
    (0xD0, ">b"),
    (0xD1, ">h"),
    (0xD2, ">i"),
    (0xD3, ">q"),
)


def shortest(forms: Sequence[bytes]) -> bytes:
    """Choose what a canonical writer chooses."""
    return min(forms, key=len)


def integer_forms(value: int) -> list[bytes]:
    """Return every msgpack integer form that holds `value`, unsigned before signed."""
    forms = [struct.pack(">b", value)] if -32 <= value < 128 else []
    for tag, layout in INTEGER_FORMS:
        try:
            forms.append(bytes([tag]) + struct.pack(layout, value))
        except struct.error:  # this form is too narrow
            continue
    return forms


def length_forms(length: int, fixed: int | None, fixed_max: int, tags: dict[int, str]) -> list[bytes]:
    """Return every way to write a length: in the tag itself, or behind one of `tags`."""
    forms = [bytes([fixed | length])] if fixed is not None and length <= fixed_max else []
    for tag, layout in tags.items():
        if length < 1 << 8 * struct.calcsize(layout):
            forms.append(bytes([tag]) + struct.pack(layout, length))
    return forms


def pack(value: Any, choose: Choose = shortest) -> bytes:
    """Encode a value, a map being a list of pairs wrapped in `reference.Pairs`."""
    if isinstance(value, reference.Pairs | list):
        return pack_items(value, choose)
    if isinstance(value, str | bytes):
        return pack_text(value, choose)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    return choose(integer_forms(value))


def pack_text(value: str | bytes, choose: Choose) -> bytes:
    """Encode a string or binary data."""
    if isinstance(value, bytes):
        return choose(length_forms(len(value), None, 0, {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"})) + value
    raw = value.encode()
    return choose(length_forms(len(raw), 0xA0, 31, {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"})) + raw


def pack_items(value: list[Any], choose: Choose) -> bytes:
    """Encode a map or an array."""
    if isinstance(value, reference.Pairs):
        head = choose(length_forms(len(value), 0x80, 15, {0xDE: ">H", 0xDF: ">I"}))
        return head + b"".join(pack(key, choose) + pack(item, choose) for key, item in value)
    head = choose(length_forms(len(value), 0x90, 15, {0xDC: ">H", 0xDD: ">I"}))
    return head + b"".join(pack(item, choose) for item in value)


def envelope(
    stored: bytes,
    *,
    kind: int = reference.KIND_SEGMENT,
    version: int = 1,
    flags: int = 0,
    length: int | None = None,
) -> bytes:
    """Put any stored body into an envelope whose checksum is right, whatever else is wrong."""
    head = reference.SUMMED.pack(reference.MAGIC, kind, version, flags, len(stored) if length is None else length)
    return head + reference.checksum(head, stored).to_bytes(8, "little") + stored


def with_checksum(data: bytes) -> bytes:
    """Make the checksum of a mutated object right again."""
    head, stored = data[:16], data[24:]
    return head + reference.checksum(head, stored).to_bytes(8, "little") + stored


def frames(body: bytes) -> dict[str, bytes]:
    """Return ways to store a body under the zstd flag, good and bad; the name says what is odd."""
    plain = zstandard.ZstdCompressor(level=3).compress(body)
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(body)
    half = len(body) // 2
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
    two = b"".join(zstandard.ZstdCompressor().compress(part) for part in (body[:half], body[half:]))
    return {
        "plain": plain,
        "summed": zstandard.ZstdCompressor(write_checksum=True).compress(body),
        "strong": zstandard.ZstdCompressor(level=19).compress(body),
        "sizeless": sizeless,
        "two frames": two,
        "trailing byte": plain + b"\0",
        "trailing frame": plain + zstandard.ZstdCompressor().compress(b""),
        "trailing skippable": plain + skippable,
        "leading skippable": skippable + plain,
        "cut": plain[:-1],
        "sizeless cut": sizeless[:-1],
        "not zstd": body,
        "empty": b"",
        "longer": zstandard.ZstdCompressor().compress(body + b"\0"),
        "shorter": zstandard.ZstdCompressor().compress(body[:-1]),
    }
