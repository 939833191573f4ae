"""Lives: which part of what two replicas know of a history is of one life, and what becomes of the rest.

A storage that is put back from a backup, or copied and used on, has two lives under one replica id. Nobody can say
which of them goes on, so neither is thrown away: what cannot be proven to be of the same life becomes a *branch*, an
origin of its own, from the last common point on. Then its changes are news to whoever knows the other life, and what
both lives changed is a conflict like any other. A doubt only ever makes a replica claim less. So a false alarm costs a
conflict that is told, and never a value.

The rules, and what is lost without each of them, are in docs/lives.md; tests/model has them as a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from kvsync.replica.collection import merged_floor
from kvsync.replica.peers import REPLACED, STRUCK, Peer, merged_gone, merged_peers, struck
from kvsync.replica.points import branch_name, common, is_branch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvsync.index.manifest import Manifest
    from kvsync.replica.history import History, Rename

__all__ = ["Met", "Standing", "compare", "digests_differ", "has_second_life", "having_met", "made_here"]


FORMER_IDS_MAX: Final = 1024
"""How many replaced ids a branch's name is held against; peers may claim any number of them."""


class Met(NamedTuple):
    """Another replica that one meets in a run.

    Attributes:
        name: of its storage, for people.
        manifest: as it stood.
        history: what it knows, by what this run knows.
        is_taken: whoever meets it knows all that it knows, so what it has collected binds that one, too.
    """

    name: str
    manifest: Manifest
    history: History
    is_taken: bool


class Standing(NamedTuple):
    """What becomes of one replica when it meets another.

    Attributes:
        replica: its id so far.
        history: what it claims to know from now on.
        collected: its floor from now on (`kvsync.replica.collection`).
        renames: its logged changes that get another origin.
        needs_id: it has to go on under a fresh id.
        needs_place: it is a copy of a storage that goes on in the same place, so it needs one of its own.
    """

    replica: int
    history: History
    collected: Mapping[int, int]
    renames: tuple[Rename, ...] = ()
    needs_id: bool = False
    needs_place: bool = False

    @property
    def is_as_before(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.renames or self.needs_id or self.needs_place)

    def branched(self, origin: int, other: Standing) -> Standing:
        """Make a branch of what this replica knows of an origin and cannot prove to the other."""
        proven = common(self.history.chains[origin], other.history.chains[origin])
        history, rename = self.history.branched(origin, proven)
        collected = dict(self.collected)
        floor = collected.pop(origin, 0)
        if floor and floor >= rename.first:
            collected[rename.name] = max(floor, collected.get(rename.name, 0))
            floor = rename.first - 1
        if floor > 0:
            collected[origin] = floor
        needs_id = self.needs_id or origin == self.replica
        renames = (*self.renames, rename)
        return self._replace(history=history, collected=collected, renames=renames, needs_id=needs_id)

    def settled(self, other: Standing) -> Standing:
        """Hold the exceptions against the other's history."""
        history, renames = self.history.settled(other.history)
        return self._replace(history=history, renames=(*self.renames, *renames))

    def identified(self, other: Standing, *, is_gone: bool) -> Standing:
        """Find out whether this replica can go on under its id: not if somebody knows more of its history."""
        own = self.history.entries.get(self.replica)
        claimed = other.history.entries.get(self.replica)
        is_behind = claimed is not None and (own is None or claimed.stamp > own.stamp)
        chain = self.history.chains.get(self.replica, ())
        exceptions = [*self.history.exceptions, *other.history.exceptions]
        is_unproven = any(span.origin == self.replica and span.point not in chain for span in exceptions)
        return self._replace(needs_id=self.needs_id or is_behind or is_unproven or is_gone)


def compare(source: Manifest, target: Manifest) -> tuple[Standing, Standing]:
    """Compare what two replicas know of every history, and return what becomes of each of them."""
    one = Standing(source.replica, source.history, source.collected)
    other = Standing(target.replica, target.history, target.collected)
    for origin in sorted(one.history.chains.keys() & other.history.chains.keys()):
        mine, theirs = one.history.chains[origin], other.history.chains[origin]
        if mine[-1] == theirs[-1]:
            continue
        if mine[-1].rank < theirs[-1].rank:
            one = one if mine[-1] in theirs else one.branched(origin, other)
        else:
            other = other if theirs[-1] in mine else other.branched(origin, one)
    one, other = one.settled(other), other.settled(one)
    gone = {*source.gone.items(), *target.gone.items()}
    ids = {replica for replica, _ in gone}
    is_one = source.replica == target.replica
    is_copy = is_one or (source.place == target.place and source.place > 0)
    one = one.identified(other, is_gone=source.replica in ids)
    other = other.identified(one, is_gone=target.replica in ids or is_one)
    # Whoever is struck and yet alive is a copy: somebody else goes on in its place.
    return (
        one._replace(needs_place=(source.replica, STRUCK) in gone),
        other._replace(needs_place=is_copy or (target.replica, STRUCK) in gone),
    )


def digests_differ(one: Manifest, other: Manifest) -> bool:
    """Whether two replicas that claim to know the same are known to hold different values."""
    if one.digest is None or other.digest is None or one.digest == other.digest:
        return False
    return not one.history.exceptions and one.history.says_same(other.history)


def has_second_life(own: Standing, other: Standing) -> bool:
    """Whether a replica turned out to have been restored or copied: its history is not what the other remembers."""
    return own.needs_id or any(rename.origin == own.replica for rename in other.renames)


def made_here(manifest: Manifest, origin: int) -> bool:
    """Whether a replica made the changes of an origin itself: under its id, one that it had, or as a branch of those.

    A branch's name is made of the id and of the point up to which it goes, so it can be proven.
    """
    ids = [manifest.replica, *(replica for replica, why in manifest.gone.items() if why == REPLACED)]
    if not is_branch(origin):
        return origin in ids
    entry = manifest.history.entries.get(origin)
    return entry is not None and any(branch_name(replica, entry) == origin for replica in ids[:FORMER_IDS_MAX])


def _name_of(met: Met) -> str:
    """Return the name of a storage, without the address of an object, which says nothing to another process."""
    return met.name.partition(" at 0x")[0]


def having_met(manifest: Manifest, met: Met) -> Manifest:
    """Return the manifest of a replica that has met another one, with what that one knows of peers."""
    gone = merged_gone(manifest.gone, met.manifest.gone)
    others = {replica: peer for replica, peer in met.manifest.peers.items() if replica != manifest.replica}
    seen = max(manifest.clock, met.manifest.clock, *manifest.cover.vector.values(), 0)
    entries = met.history.entries
    offered = {origin: point for origin, point in manifest.history.entries.items() if entries.get(origin) != point}
    others[met.manifest.replica] = Peer(_name_of(met), seen, entries, offered, met.manifest.place)
    known = {replica: peer for replica, peer in {**manifest.peers, **others}.items() if replica != manifest.replica}
    gone = merged_gone(gone, struck(known, met.manifest.replica, met.manifest.place))
    collected = merged_floor(manifest.collected, met.manifest.collected) if met.is_taken else manifest.collected
    return manifest._replace(peers=merged_peers(manifest.peers, others, gone), gone=gone, collected=collected)
