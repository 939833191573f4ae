"""What a manifest may claim, whoever wrote it: limits that honest use does not reach, and what its fields say together.

A manifest comes from a storage that somebody else may write, with checksums that anybody can calculate. So everything
in it is bounded before it is merged with what another replica knows (docs/index-format.md, "Limits").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from kvsync.errors import StorageError
from kvsync.index.objects import MANIFEST, damaged, field_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from kvsync.errors import IndexDamagedError
    from kvsync.replica.history import History
    from kvsync.replica.knowledge import Knowledge
    from kvsync.replica.peers import Peer
    from kvsync.replica.points import Point

__all__ = [
    "LATE_WRITE_SECONDS",
    "TEXT_MAX",
    "Newest",
    "check",
    "check_bytes",
    "check_history",
    "check_lengths",
    "newest",
    "refuse_growth",
    "require_writable",
    "shortened",
]

COUNTER_MAX: Final = 2**48
"""Generations and numbers of points: what a storage could count in thousands of years."""

STAMP_MAX: Final = 2**63 - 1
"""A stamp of the year 6429; the next ones still fit in 64 bits."""

TIME_MS_MAX: Final = 2**47

BRANCH_BIT: Final = 1 << 63

LENGTH_MAX: Final = {
    "chains": 16_384,
    "exceptions": 1_048_576,
    "missing": 1_048_576,
    "unreconciled": 1_048_576,
    "segments": 1_024,
    "peers": 8_192,
    "gone": 131_072,
    "collected": 131_072,
    "intents": 1_024,
    "garbage": 65_536,
}
"""How many entries a reader accepts in each field."""

MERGED_SHARE: Final = 2
"""What a run merges may reach the limit divided by this: so nobody can fill up a manifest until it is not read."""

POINTS_MAX: Final = 1_048_576
"""Points of all chains together, and entries of all peers together."""

MAXIMA_MAX: Final = 1_048_576
"""Origins of all segments together."""

TEXT_MAX: Final = 4_096
"""Characters of a peer's name, and of a reason; writers cut longer ones."""

VERSION_BYTES_MAX: Final = 65_536
"""Bytes of the version of a lease object: in a dict that is the object itself."""

LATE_WRITE_SECONDS: Final = 600
"""How long after its lease was taken over a holder's last write may still land."""

OBJECT_NAME: Final = re.compile(r"segment/[0-9a-f]{16}-[0-9a-f]{1,16}")
"""Objects that a manifest lists or remembers."""

GARBAGE_NAME: Final = re.compile(rf"{OBJECT_NAME.pattern}|pack/[0-9a-f]{{32}}")
"""Objects that a manifest lists as garbage."""

STAMP_MS_SHIFT: Final = 16

BODY_BYTES_MAX: Final = 256 << 20
"""Bytes of a manifest or an inventory, decompressed."""

LENGTH_AT: Final = slice(8, 16)
"""Where the envelope says how long the body is."""


class Listed(Protocol):
    """What a manifest says of a segment."""

    @property
    def name(self) -> str: ...
    @property
    def maxima(self) -> Sequence[tuple[int, int]]: ...
    @property
    def passing(self) -> Sequence[tuple[int, int]]: ...


class Remembered(Protocol):
    """What a manifest says of an intent."""

    @property
    def name(self) -> str: ...
    @property
    def until_ms(self) -> int: ...


class Claims(Protocol):
    """What a manifest says, as `kvsync.index.manifest` reads it."""

    @property
    def replica(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def clock(self) -> int: ...
    @property
    def knowledge(self) -> Knowledge: ...
    @property
    def segments(self) -> Sequence[Listed]: ...
    @property
    def peers(self) -> Mapping[int, Peer]: ...
    @property
    def gone(self) -> Mapping[int, int]: ...
    @property
    def collected(self) -> Mapping[int, int]: ...
    @property
    def collected_ms(self) -> int: ...
    @property
    def intents(self) -> Sequence[Remembered]: ...
    @property
    def garbage(self) -> Sequence[str]: ...
    @property
    def lease(self) -> bytes: ...


class Newest(NamedTuple):
    """The greatest time in a manifest, in wall-clock milliseconds, and the field that has it."""

    ms: int
    field: str


def shortened(text: str) -> str:
    """Return a text for people, cut to what a manifest may hold."""
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


def check_lengths(fields: Mapping[str, object], storage: str) -> None:
    """Refuse fields with more entries than there may be, before any of them is looked at.

    Raises:
        IndexDamagedError: one has.
    """
    for field, most in LENGTH_MAX.items():
        rows = fields[field]
        if type(rows) is list and len(rows) > most:
            raise _too_many(storage, field, len(rows), most)


def check_bytes(data: bytes, storage: str, name: str = MANIFEST) -> None:
    """Refuse a manifest, or another object of a `name`, that says that it is too large, before it is decompressed.

    Raises:
        IndexDamagedError: it does.
    """
    length = int.from_bytes(data[LENGTH_AT], "little")
    if length > BODY_BYTES_MAX:
        what = f"claims more than it may: {length:,} bytes, at most {BODY_BYTES_MAX:,}"
        raise damaged(storage, name, what)


def require_writable(manifest: Claims, storage: str) -> None:
    """Make sure that nothing is written that a reader would refuse.

    Raises:
        StorageError: a field has too many entries.
    """
    knowledge = manifest.knowledge
    counts = {
        "exceptions": len(knowledge.history.exceptions),
        "missing": len(knowledge.missing),
        "unreconciled": len(knowledge.unreconciled),
        "garbage": len(manifest.garbage),
        "intents": len(manifest.intents),
    }
    for field, count in counts.items():
        if count > LENGTH_MAX[field]:
            message = (
                f"the log would have {count:,} entries in {field}, and at most {LENGTH_MAX[field]:,} can be kept; see "
                "what is wrong with `kvsync status`, and move fewer keys in a run"
            )
            raise StorageError(message, storage=storage)


def check(manifest: Claims, storage: str) -> None:
    """Refuse a manifest with numbers, names or texts out of bounds, or with fields that contradict each other.

    Raises:
        IndexDamagedError: the message names the field.
    """
    for field, is_sound in CHECKS.items():
        if not is_sound(manifest):
            raise field_error(storage, MANIFEST, field)
    _check_totals(manifest, storage)


def check_history(history: History, storage: str, name: str, field: str) -> None:
    """Refuse numbers out of bounds in a history that is stored somewhere else.

    Raises:
        IndexDamagedError: one is.
    """
    if not (_has_sound_chains(history) and _has_sound_exceptions(history)):
        raise field_error(storage, name, field)


def refuse_growth(one: Claims, other: Claims, storage: str) -> None:
    """Refuse to merge what `other`, of a `storage`, brings, where `one` would become too large by it.

    Raises:
        IndexDamagedError: it would; the message names the field.
    """
    here, there = _names(one), _names(other)
    for field, own in here.items():
        brought, most = there[field], LENGTH_MAX[field] // MERGED_SHARE
        if len(own) + len(brought) > most and len(union := {*own, *brought}) > max(most, len(own)):
            raise _too_many(storage, field, len(union), most)


def newest(manifest: Claims) -> Newest:
    """Return the greatest time that a manifest names.

    The clock is not before anything that is known, and so not before what is logged, missing or unreconciled, nor
    before the points of chains, at which peers stand.
    """
    exceptions = manifest.knowledge.history.exceptions
    stamp, field = max(
        (manifest.clock, "clock"),
        (max([span.point.stamp for span in exceptions], default=0), "exceptions"),
        (max([peer.seen for peer in manifest.peers.values()], default=0), "peers"),
        (max(manifest.collected.values(), default=0), "collected"),
    )
    until_ms = max([intent.until_ms for intent in manifest.intents], default=0)
    return max(
        Newest(stamp >> STAMP_MS_SHIFT, field),
        Newest(manifest.collected_ms, "collected_ms"),
        Newest(until_ms - LATE_WRITE_SECONDS * 1000, "intents"),
    )


# What each field may say


def _has_sound_chains(history: History) -> bool:
    return all(_is_sound_point(*point) for chain in history.chains.values() for point in chain)


def _has_sound_exceptions(history: History) -> bool:
    return all(_is_sound_point(*span.point) for span in history.exceptions)


def _is_sound_point(number: int, stamp: int, _mark: int) -> bool:
    return number <= COUNTER_MAX and stamp <= STAMP_MAX


def _is_past_all_that_is_known(manifest: Claims) -> bool:
    known = [chain[-1].stamp for chain in manifest.knowledge.history.chains.values()]
    known += [span.last for span in manifest.knowledge.history.exceptions]
    return max(known, default=0) <= manifest.clock <= STAMP_MAX


def _has_known_missing(manifest: Claims) -> bool:
    covers = manifest.knowledge.cover.covers
    return all(covers(*entry.change.dot) and len(entry.reason) <= TEXT_MAX for entry in manifest.knowledge.missing)


def _has_known_unreconciled(manifest: Claims) -> bool:
    covers = manifest.knowledge.cover.covers
    return all(covers(*change.dot) for change in manifest.knowledge.unreconciled)


def _has_sound_segments(manifest: Claims) -> bool:
    names = [entry.name for entry in manifest.segments]
    return (
        _are_object_names(names)
        and len(set(names)) == len(names)
        and all(_generation_of(name) <= manifest.generation for name in names)
        and _logs_what_it_knows(manifest)
    )


def _logs_what_it_knows(manifest: Claims) -> bool:
    """Whether the manifest claims to know all that it lists: nobody may slip in changes beside a history."""
    covers = manifest.knowledge.cover.covers
    return all(covers(*dot) for entry in manifest.segments for dot in entry.maxima)


def _has_sound_peers(manifest: Claims) -> bool:
    return manifest.replica not in manifest.peers and all(
        replica < BRANCH_BIT
        and len(peer.name) <= TEXT_MAX
        and peer.seen <= STAMP_MAX
        and all(_is_sound_point(*point) for point in _points(peer))
        for replica, peer in manifest.peers.items()
    )


def _has_sound_floor(manifest: Claims) -> bool:
    """Whether nothing was collected beyond what is known; a branch may be forgotten, and its floor not."""
    entries = manifest.knowledge.history.entries
    return all(
        stamp <= (entries[origin].stamp if origin in entries else STAMP_MAX)
        for origin, stamp in manifest.collected.items()
    )


def _are_object_names(names: Iterable[str]) -> bool:
    return all(OBJECT_NAME.fullmatch(name) for name in names)


def _generation_of(name: str) -> int:
    return int(name[8:24], 16)


CHECKS: Final[dict[str, Callable[[Claims], bool]]] = {
    "replica": lambda manifest: 0 < manifest.replica < BRANCH_BIT,
    "generation": lambda manifest: 0 < manifest.generation <= COUNTER_MAX,
    "chains": lambda manifest: _has_sound_chains(manifest.knowledge.history),
    "exceptions": lambda manifest: _has_sound_exceptions(manifest.knowledge.history),
    "clock": _is_past_all_that_is_known,
    "missing": _has_known_missing,
    "unreconciled": _has_known_unreconciled,
    "segments": _has_sound_segments,
    "peers": _has_sound_peers,
    "gone": lambda manifest: all(0 < replica < BRANCH_BIT for replica in manifest.gone),
    "collected": _has_sound_floor,
    "collected_ms": lambda manifest: manifest.collected_ms <= TIME_MS_MAX,
    "intents": lambda manifest: (
        _are_object_names(intent.name for intent in manifest.intents)
        and all(intent.until_ms <= TIME_MS_MAX for intent in manifest.intents)
    ),
    "garbage": lambda manifest: all(map(GARBAGE_NAME.fullmatch, manifest.garbage)),
    "lease": lambda manifest: len(manifest.lease) <= VERSION_BYTES_MAX,
}
"""By field, in the order of the format; what a check relies on comes before it."""


def _check_totals(manifest: Claims, storage: str) -> None:
    totals = {
        "chains": (sum(map(len, manifest.knowledge.history.chains.values())), POINTS_MAX),
        "peers": (sum(len(peer.entries) + len(peer.offered) for peer in manifest.peers.values()), POINTS_MAX),
        "segments": (sum(len(entry.maxima) + len(entry.passing) for entry in manifest.segments), MAXIMA_MAX),
    }
    for field, (count, most) in totals.items():
        if count > most:
            raise _too_many(storage, field, count, most)


def _too_many(storage: str, field: str, count: int, most: int) -> IndexDamagedError:
    return damaged(storage, MANIFEST, f"claims more than it may: {count:,} entries in {field}, at most {most:,}")


def _names(manifest: Claims) -> dict[str, Collection[object]]:
    """Return what may not grow without bound, by field; each name once."""
    history = manifest.knowledge.history
    return {
        "chains": history.chains,
        "exceptions": history.exceptions,
        "peers": manifest.peers,
        "gone": manifest.gone,
        "collected": manifest.collected,
    }


def _points(peer: Peer) -> Iterator[Point]:
    yield from peer.entries.values()
    yield from peer.offered.values()
