"""Inventories in pieces and patches against a plain dict: walked, corrected, merged, folded, saved and read again."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

import index_strategies as some
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from variants import amount

from kvsync import _core
from kvsync.environment import Environment
from kvsync.index.inventory import Inventory, read_inventory
from kvsync.native import Piece, Segment
from kvsync.scan.folding import SIZES, Sizes
from kvsync.scan.known import Known, Noted, patch_of
from kvsync.scan.listing import compare
from kvsync.scan.pieces import Feed, Pieces, merged
from kvsync.scan.saving import save
from kvsync.storages.mapping import MappingStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

Entries = dict[str, tuple[bytes, bytes]]

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""To shrink a failing example takes minutes."""

few_keys = st.sampled_from([f"{letter}{number}" for letter in "ab\u00e9\U00010000" for number in range(12)])
digests = st.integers(1, 3).map(lambda number: bytes([number]) * 32)
tokens = st.one_of(st.sampled_from([b"", b"t", b"\x01" * 32]), st.binary(max_size=3))
noted = st.one_of(st.none(), st.tuples(tokens, digests))
patches = st.dictionaries(few_keys, noted, max_size=25)
sizes = st.builds(Sizes, st.integers(1, 300), st.integers(1, 200), st.integers(0, 100), st.integers(0, 600))


@contextmanager
def cut(chosen: Sizes) -> Iterator[None]:
    """Cut inventories into pieces of other sizes within the block."""
    before = astuple(SIZES)
    for field, value in zip(fields(SIZES), astuple(chosen), strict=True):
        setattr(SIZES, field.name, value)
    try:
        yield
    finally:
        for field, value in zip(fields(SIZES), before, strict=True):
            setattr(SIZES, field.name, value)


def applied(entries: Entries, changes: dict[str, Noted]) -> Entries:
    """Return entries after some changes, ascending by key."""
    after = {key: changes.get(key, old) for key, old in {**entries, **changes}.items()}
    return dict(sorted((key, entry) for key, entry in after.items() if entry is not None))


def entries_of(known: Known) -> Entries:
    """Return every entry of an inventory."""
    pieces = merged(known.pieces, known.runs, 1 << 30, drops_gone=True)
    return {key: (token, digest) for piece in pieces for key, (token, digest) in piece.entries() if digest is not None}


def pages_of(entries: Entries, chance: random.Random) -> Iterator[tuple[list[str], list[bytes]]]:
    """Yield a listing in pages of any lengths, some of them empty."""
    keys = list(entries)
    start = 0
    while start < len(keys):
        stop = start + chance.randrange(4)
        yield keys[start:stop], [entries[key][0] for key in keys[start:stop]]
        start = stop


@settings(max_examples=amount(25, 3000), phases=QUICK)
@given(st.lists(patches, max_size=12), patches, sizes, st.randoms(use_true_random=False))
def test_an_inventory_is_what_was_noted(
    steps: list[dict[str, Noted]], news: dict[str, Noted], chosen: Sizes, chance: random.Random
) -> None:
    values: dict[str, bytes] = {}
    environment = Environment(random=random.Random(1))
    entries: Entries = {}
    with cut(chosen):
        stored: Inventory | None = None
        for step in steps:
            # Each run reads what the one before it stored, and may note something twice.
            storage = MappingStorage(values)
            assert read_inventory(storage) == stored
            stored = save(Known(Pieces(storage), stored), step, environment, lambda: None)
            entries = applied(entries, step)
            known = Known(Pieces(storage), read_inventory(storage))
            assert entries_of(known) == entries
            listed = {entry.name for entry in stored.stored}
            there = {name for name in storage.objects() if name.startswith("piece/")}
            assert listed | set(stored.garbage) == there
            assert not listed & set(stored.garbage)
        compared_with(Known(Pieces(MappingStorage(values)), stored), entries, applied(entries, news), chance)


def compared_with(known: Known, entries: Entries, listed: Entries, chance: random.Random) -> None:
    """Check that a walk along an inventory finds what differs, and that keys are found in it."""
    listing = compare(known, pages_of(listed, chance), lambda: None)
    changed = {key: token for key, (token, _) in listed.items() if not token or entries.get(key, (b"",))[0] != token}
    unread = zip(*listing.unread.part(0, len(listing.unread)), strict=True)
    before = {key: entries[key][1] if key in entries else None for key in changed}
    assert list(unread) == [(key, token, before[key]) for key, token in changed.items()]
    assert len(listing.found) == 0
    assert (listing.known, listing.is_empty) == (len(entries), not listed)
    assert listing.gone == [key for key in entries if key not in listed]
    keys = [*listed, *entries, "a", "nowhere", "\U00010001"]
    chance.shuffle(keys)
    assert known.tokens(keys) == [entries[key][0] if key in entries else None for key in keys]
    assert known.digests(keys) == [entries[key][1] if key in entries else None for key in keys]


times = st.sampled_from([0, 0, 0, 5, 50])
changes = st.dictionaries(few_keys, st.one_of(st.none(), st.tuples(digests, times)), max_size=25)


@settings(max_examples=amount(25, 3000), phases=QUICK)
@given(
    log=changes,
    old=st.lists(patches, max_size=4),
    held=st.dictionaries(few_keys, st.one_of(st.none(), digests), max_size=4),
    keeps_tokens=st.booleans(),
    piece_bytes=st.integers(1, 200),
)
def test_a_correction_says_what_the_log_says(
    *,
    log: dict[str, tuple[bytes, int] | None],
    old: list[dict[str, Noted]],
    held: dict[str, bytes | None],
    keeps_tokens: bool,
    piece_bytes: int,
) -> None:
    rows = [
        (key, 7, 1, 1, 0, bytes(32), 0) if value is None else (key, 7, 1, 0, 1, *value) for key, value in log.items()
    ]
    pieces = Pieces(MappingStorage({}))
    runs = [list(merged(pieces, [[patch_of(patch)]], piece_bytes, drops_gone=False)) for patch in old]
    entries: Entries = {}
    for patch in old:
        entries = applied(entries, patch)
    correction = _core.Correction(list(map(len, runs)), Segment.from_rows(rows), held, 10, keeps_tokens)
    feed = Feed(pieces, runs)
    while not correction.done:
        feed.supply(correction)
        correction.step()
    corrected, expired = correction.finish()

    live = {key: value[0] for key, value in log.items() if value is not None and key not in held and value[1] != 5}
    live |= {key: digest for key, digest in held.items() if digest is not None}
    kept = {key: token for key, (token, digest) in entries.items() if live.get(key) == digest and keeps_tokens}
    expected = {key: (kept.get(key, b""), digest) for key, digest in sorted(live.items())}
    noted = {key: None if digest is None else (token, digest) for key, (token, digest) in corrected.entries()}
    assert applied(entries, noted) == expected
    assert all(entries.get(key) != entry for key, entry in noted.items()), "nothing is noted that is known"
    assert dict(expired) == {
        key: value[0] for key, value in log.items() if value is not None and key not in held and value[1] == 5
    }


@given(some.listings, st.lists(st.text(max_size=3)), st.integers(1, 9))
def test_ranks_are_numbers_of_smaller_keys(seen: Entries, wanted: list[str], step: int) -> None:
    piece = Piece.build(list(seen), [token for token, _ in seen.values()], [digest for _, digest in seen.values()])
    assert piece.ranks(wanted) == [sum(key < other for key in seen) for other in wanted]
    assert piece.first == next(iter(seen), None)
    assert piece.every(step) == list(seen)[::step]
    assert len(piece) == len(seen)
