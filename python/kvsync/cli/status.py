"""`kvsync status`: show what kvsync knows about a storage."""

import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

from kvsync import checks, inspection
from kvsync.cli.exitcodes import DONE
from kvsync.cli.json_fields import id_text, name_fields, name_of, peer_fields, stamp_fields, stamp_time, time_text
from kvsync.cli.names import shown
from kvsync.cli.options import Location, Option, TombstoneGrace
from kvsync.cli.output import Output, counted, duration, first_of
from kvsync.cli.peers import passing
from kvsync.cli.summary import guarantee_line
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened, opened_pair
from kvsync.lease import LeaseRecord, LeaseState
from kvsync.process import Presence, presence
from kvsync.storages import redact
from kvsync.storages.journal import Journal

__all__ = ["lease_fields", "lease_line", "status", "tracking_line"]

SEEN_AS = {
    Presence.GONE: "that process has ended",
    Presence.RUNNING: "that process is running on this machine",
    Presence.ELSEWHERE: "whether that process is alive cannot be seen from here",
}


def status(
    storage: Location,
    peer: Annotated[str | None, Option(help="Another storage: show what each lacks of the other.")] = None,
    /,
    *,
    tombstone_grace: TombstoneGrace = "30d",
    output: Output = PLAIN,
) -> int:
    """Show what kvsync knows about a storage: its log, its peers, who holds its lease."""
    if peer is None:
        with opened(storage) as one:
            found = checks.status(one, tombstone_grace=tombstone_grace)
    else:
        with opened_pair(storage, peer) as pair:
            found = checks.status(*pair, tombstone_grace=tombstone_grace)
    output.result(_fields(found))
    output.say_all(_lines(found))
    output.detail_all([guarantee_line(found.guarantee)])
    return DONE


def lease_fields(lease: LeaseRecord) -> dict[str, object]:
    """Return the fields of a lease."""
    return {
        "state": str(lease.state),
        "owner": lease.owner,
        "acquired": time_text(lease.acquired / 1000),
        "expires": time_text(lease.expires / 1000),
        "expired": lease.expired(int(time.time() * 1000)),
        "process": presence(lease.process).value,
    }


def lease_line(lease: LeaseRecord | None) -> str:
    """Return who holds a lease, or how its last holder left it."""
    if lease is None:
        return "free"
    if lease.state is LeaseState.INTERRUPTED:
        return f"free; the last run, by {lease.owner}, was interrupted, and the next run finishes its work"
    ends = time_text(lease.expires / 1000)
    if lease.expired(int(time.time() * 1000)):
        return f"expired at {ends}, last held by {lease.owner}; the next run takes it over"
    return f"held by {lease.owner} until {ends}; {SEEN_AS[presence(lease.process)]}"


def tracking_line(journal: Journal | None) -> str:
    """Return what a journal says."""
    if journal is None:
        return "no: scans look at everything; `kvsync track` changes that"
    if journal.fault:
        return f"broken: {journal.fault}"
    if journal.changed is None:
        return "yes; the next scan looks at everything"
    return f"yes; {counted(len(journal.changed), 'key')} changed since the last scan"


def _fields(found: inspection.Status) -> dict[str, object]:
    return {
        "storage": redact(found.storage),
        "replica": None if found.replica is None else id_text(found.replica),
        "generation": found.generation,
        "vector": {id_text(origin): stamp_fields(stamp) for origin, stamp in sorted(found.vector.items())},
        "changes": found.changes,
        "segments": found.segments,
        "index_bytes": found.index_bytes,
        "missing": {key: redact(reason) for key, reason in found.missing.items()},
        "peers": [id_text(peer) for peer in found.peers],
        "names": name_fields(found.names),
        "held_back_by": [peer_fields(peer) for peer in found.held_back_by],
        "lease": None if found.lease is None else lease_fields(found.lease),
        "guarantee": found.guarantee,
        "lag": None if found.lag is None else found.lag._asdict(),
        "tracked": found.journal is not None,
        "journal": _journal_fields(found.journal),
    }


def _journal_fields(journal: Journal | None) -> dict[str, object] | None:
    if journal is None:
        return None
    return {"changed": None if journal.changed is None else len(journal.changed), "fault": journal.fault or None}


def _lines(found: inspection.Status) -> Iterator[str]:
    yield redact(found.storage)
    if found.replica is None:
        yield "  replica    none yet: kvsync has never written here"
    else:
        yield f"  replica    {id_text(found.replica)}, generation {found.generation:,}"
    log = [(found.changes, "change"), (found.segments, "segment"), (found.index_bytes, "byte")]
    yield f"  log        {', '.join(counted(count, noun) for count, noun in log)}"
    for origin, stamp in sorted(found.vector.items()):
        whose = "its own changes" if origin == found.replica else f"changes of {name_of(origin, found.names)}"
        yield f"  knows      {whose} up to {stamp_time(stamp) or 'an unknown time'}"
    yield f"  peers      {', '.join(name_of(peer, found.names) for peer in found.peers) or 'none'}"
    yield from _waiting_line(redact(found.storage), found.held_back_by)
    if found.lag is not None:
        yield f"  lag        {lag_text(found.lag)}"
    yield f"  lease      {lease_line(found.lease)}"
    missing = (f"  missing    {key!r}: {redact(reason)}" for key, reason in found.missing.items())
    yield from first_of(missing, len(found.missing))
    if found.can_be_tracked:
        yield f"  tracking   {tracking_line(found.journal)}"


def lag_text(lag: inspection.Lag) -> str:
    """Return what two storages lack of each other, by their logs."""
    if not (lag.to_peer or lag.to_storage):
        return "none: by their logs, neither lacks a change of the other"
    age = "" if lag.seconds is None else f"; the oldest is {duration(lag.seconds)} old"
    return f"the peer lacks {counted(lag.to_peer, 'change')}, this storage lacks {lag.to_storage:,}{age}"


def _waiting_line(name: str, peers: Sequence[inspection.KnownPeer]) -> Iterator[str]:
    """Yield who keeps deletes logged that are old enough to go, and what to do about it."""
    if peers:
        first, *others = peers
        also = f", and others for {counted(len(others), 'more peer')}" if others else ""
        yield (
            f"  waiting    {passing(first.holds_back)} for {shown(first.name)} ({first.id}){also}: "
            f"see `kvsync peers {shlex.quote(name)}`"
        )
