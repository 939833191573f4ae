"""Inventories in small pieces, so that a handful of keys has a base of several pieces, and patches that fold."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from kvsync.scan.folding import SIZES, Sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SMALL", "small_pieces"]

SMALL = Sizes(piece=120, patch_piece=60, inline=50, rebase=200)
"""An entry has 36 bytes and more."""


@contextmanager
def small_pieces() -> Iterator[None]:
    """Cut inventories into small pieces within the block."""
    before = astuple(SIZES)
    _set(astuple(SMALL))
    try:
        yield
    finally:
        _set(before)


def _set(values: tuple[int, ...]) -> None:
    for field, value in zip(fields(SIZES), values, strict=True):
        setattr(SIZES, field.name, value)
