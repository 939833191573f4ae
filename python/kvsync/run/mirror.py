"""A mirror: what the target has and the source does not know is overturned, by decisions that the source makes.

The outcome of each such key is what the source has there: its value, or nothing. That is logged as a decision of the
source, past all that either side knows, so the rest is a push like any other: the target gets it, and whoever met the
target before learns of it later. The values that go are kept first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import DECISION, TOMBSTONE
from kvsync.policy import Verdict, newer
from kvsync.replica.segments import changes_of
from kvsync.run.conflicts import NO_DIGEST, Decision, Verdicts
from kvsync.scan.reading import confirm_gone
from kvsync.types import Change, Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.native import Segment
    from kvsync.run.clashes import Overwritten
    from kvsync.run.side import Pair, Side

__all__ = ["overturn"]


def overturn(
    pair: Pair, withheld: Segment, conflicts: Sequence[Conflict], overwritten: Sequence[Overwritten]
) -> Verdicts:
    """Decide against what the target has and the source misses; nothing is written.

    Of the other conflicts the source's change is the greater one.
    """
    verdicts = Verdicts()
    for image, change in _overturned(pair, withheld):
        verdicts.at["source"].append(Decision.of_change(image))
        verdicts.decided.append((Conflict(change.key, image, change), Verdict("source")))
        verdicts.overturned[change.key] = None
    for conflict in conflicts:
        if conflict.key not in verdicts.overturned:
            winner = newer(conflict.source, conflict.target)
            verdicts.decided.append((conflict, Verdict(winner)))
            if pair.in_doubt:  # both claim to know the same, so only a new change reaches who knows as much
                holder = conflict.source if winner == "source" else conflict.target
                verdicts.at[winner].append(Decision.of_change(holder))
    verdicts.decided += [(each.conflict, Verdict(each.winner)) for each in overwritten]
    return verdicts


def _overturned(pair: Pair, withheld: Segment) -> list[tuple[Change, Change]]:
    """Return what the source has, as a change, and what the target has, at each key that a mirror overturns.

    What stays is what nobody can say the source's image of: a key of which a side does not hold the value that its log
    names, that cannot be read in the source now, or where its log has nothing and a direct look finds something.
    """
    source = pair.source
    unsure = {entry.change.key for side in pair.sides for entry in side.log.manifest.knowledge.missing}
    unsure.update(source.scan.unreadable if source.scan is not None else ())
    changes = [change for change in changes_of(withheld) if change.key not in unsure]
    pairs = [(_image(source, own, change), change) for change, own in _with_newest(source, changes)]
    empty = [image.key for image, _ in pairs if image.deletes]
    gone = set(confirm_gone(source.storage, [key for key in empty if source.pending.get(key) is None])[0])
    return [(image, change) for image, change in pairs if not image.deletes or image.key in gone]


def _with_newest(source: Side, changes: Sequence[Change]) -> Iterator[tuple[Change, Change | None]]:
    return zip(changes, source.log.newest([change.key for change in changes]), strict=True)


def _image(source: Side, own: Change | None, change: Change) -> Change:
    """Return what the source has at a key: a delete where it never had anything."""
    return own or Change(change.key, source.origin, 0, DECISION | TOMBSTONE, 0, NO_DIGEST)
