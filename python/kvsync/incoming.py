"""What one side gets in a run: what it has to log, to copy and to fill, and what it will not have met."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvsync.expiry import unexpiring
from kvsync.native import Segment
from kvsync.types import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.index.manifest import Manifest, Missing
    from kvsync.native import Cover
    from kvsync.side import Side

__all__ = ["Incoming", "incoming_of", "unknown_to"]


@dataclass(frozen=True, slots=True)
class Incoming:
    """What one side gets in a run.

    Attributes:
        log: every change that it has to log.
        copy: those of them whose value has to move (a value that is equal already does not).
        fill: changes logged earlier whose value was missing, and may be had from the other side now.
        unmet: changes that it will know of without having held or met them (`Missing.overtaken`).
        unexpiring: how many values stay there past their time, since this side cannot keep it.
    """

    log: Segment
    copy: Segment
    fill: Segment
    unmet: tuple[Missing, ...] = ()
    unexpiring: int = 0


def incoming_of(
    taker: Side, giver: Side, plain: Segment, won: Sequence[Change], log_only: Segment, now_ms: int
) -> Incoming:
    """Return what `taker` gets: the changes that it misses, and those that `won` a conflict.

    What is `log_only` it holds already, but knows under another change.
    """
    manifest = taker.replica.manifest
    copy = Segment.merge([plain, Segment.from_rows(won)]) if won else plain
    if manifest.lacking and len(log_only):
        # An equal outcome needs no copy, but where the taker's own is missing.
        rows = log_only.find([lack.change.key for lack in manifest.lacking])
        wanted = [Change._make(row) for row in rows if row is not None]
        copy = Segment.merge([copy, Segment.from_rows(wanted)]) if wanted else copy
    log = Segment.merge([copy, log_only]) if len(log_only) else copy
    fill = _fillable(manifest, giver.replica.manifest, log, now_ms)
    lasting = unexpiring(copy, taker.storage, now_ms) + unexpiring(fill, taker.storage, now_ms)
    return Incoming(log, copy, fill, _unmet(taker, giver.replica.manifest, log), lasting)


def unknown_to(unmet: Sequence[Missing], cover: Cover) -> list[Missing]:
    """Return those of `unmet` that `cover` does not know of yet."""
    return [lack for lack in unmet if not cover.covers(*lack.change.dot)]


def _fillable(taker: Manifest, giver: Manifest, log: Segment, now_ms: int) -> Segment:
    """Return what `taker` misses and `giver` may hold, or has expired, unless something newer comes in anyway."""
    if not taker.lacking:
        return Segment.from_rows([])
    lacking = {lack.change.key for lack in giver.lacking}
    wanted = [lack.change for lack in taker.lacking if lack.change.key not in lacking or lack.change.expired(now_ms)]
    beaten = log.find([change.key for change in wanted])
    return Segment.from_rows([change for change, row in zip(wanted, beaten, strict=True) if row is None])


def _unmet(taker: Side, giver: Manifest, log: Segment) -> tuple[Missing, ...]:
    """Return what `taker` will know of without having met it, once it has logged `log` of `giver`.

    That is what was so before and found no answer in this run, and what it misses and will see beaten by somebody
    who does not know it: a conflict that no vector shows, to be met with whoever holds the value.
    """
    missing = taker.replica.manifest.missing
    unmet = [lack for lack in missing if lack.overtaken and lack.change.dot not in taker.answered]
    lacking = taker.replica.manifest.lacking
    rows = log.find([lack.change.key for lack in lacking]) if lacking else []
    for lack, row in zip(lacking, rows, strict=True):
        beaten = row is not None and Change._make(row).outcome != lack.change.outcome
        if beaten and not giver.has_met(lack.change):
            unmet.append(replace(lack, held=b"", overtaken=True))
    return tuple(unmet)
