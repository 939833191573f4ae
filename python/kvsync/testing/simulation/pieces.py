"""Small parts of an index, so that a handful of keys has all of them.

An inventory has a base of several pieces, and patches that fold; a log has a base of several blocks and packs.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

from kvsync.replica import base
from kvsync.scan import folding

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SMALL", "SMALL_BLOCKS", "small_blocks", "small_pieces"]

SMALL = folding.Sizes(piece=120, patch_piece=60, inline=50, rebase=200)
"""An entry has 36 bytes and more."""

SMALL_BLOCKS = base.Sizes(base=2, target=64, pack=400, small_pack=200, read_ahead=300)
"""A change has 54 bytes and more, so a block has one or two."""


@contextmanager
def small_pieces() -> Iterator[None]:
    """Cut inventories into small pieces within the block."""
    with _sizes(folding.SIZES, SMALL):
        yield


@contextmanager
def small_blocks() -> Iterator[None]:
    """Keep the base of a log in small blocks within the block."""
    with _sizes(base.SIZES, SMALL_BLOCKS):
        yield


@contextmanager
def _sizes(sizes: folding.Sizes | base.Sizes, small: folding.Sizes | base.Sizes) -> Iterator[None]:
    before = astuple(sizes)
    _set(sizes, astuple(small))
    try:
        yield
    finally:
        _set(sizes, before)


def _set(sizes: folding.Sizes | base.Sizes, values: tuple[int, ...]) -> None:
    for field, value in zip(fields(sizes), values, strict=True):
        setattr(sizes, field.name, value)
