"""`kvsync peers`: show the storages that one knows of, and what waits for each of them."""

import shlex
from collections.abc import Iterator, Sequence

from kvsync import absence
from kvsync.cli.exitcodes import DONE
from kvsync.cli.json_fields import peer_fields, time_text
from kvsync.cli.log import UNKNOWN_TIME
from kvsync.cli.names import shown
from kvsync.cli.options import Location, TombstoneGrace
from kvsync.cli.output import Output, counted
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.inspection import KnownPeer
from kvsync.storages import redact

__all__ = ["passing", "peers"]


def peers(storage: Location, /, *, tombstone_grace: TombstoneGrace = "30d", output: Output = PLAIN) -> int:
    """Show the storages that one knows of, and what is waiting for each of them.

    Each line has the id of a peer, when it was seen last, and its name. A
    delete stays logged until all peers are known to have it. If one of them
    does not come back, `kvsync forget` ends that.
    """
    with opened(storage) as one:
        found = absence.peers(one, tombstone_grace=tombstone_grace)
        name = redact(one.name)
    output.result({"storage": name, "peers": [peer_fields(peer) for peer in found]})
    output.say_all(_lines(name, found))
    if not found:
        output.note(f"{name} knows no other storage")
    return DONE


def _lines(name: str, found: Sequence[KnownPeer]) -> Iterator[str]:
    for peer in found:
        yield f"{peer.id}  {time_text(peer.seen) or UNKNOWN_TIME}  {shown(peer.name)}{_held_back(peer)}"
    if any(peer.holds_back for peer in found):
        yield f"  if one of them does not come back: `kvsync forget {shlex.quote(name)} ID`"


def _held_back(peer: KnownPeer) -> str:
    if peer.forgotten:
        return " (forgotten)"
    if not peer.holds_back:
        return ""
    wait = "waits" if peer.holds_back == 1 else "wait"
    return f": {passing(peer.holds_back)} {wait} for it, {peer.alone:,} for it alone"


def passing(count: int) -> str:
    """Return how many changes will go some day.

    >>> passing(1), passing(2)
    ('1 delete or expired value', '2 deletes or expired values')
    """
    return f"{counted(count, 'delete')} or {'expired value' if count == 1 else 'expired values'}"
