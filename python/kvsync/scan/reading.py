"""Reading what a storage holds: the values whose version tokens are new, and that the listing has not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvsync.digesting import BATCH_COUNT, Digested, digests
from kvsync.native import FoundValues
from kvsync.replica.recovery import FoundValue
from kvsync.storages.contract import OpaqueTokens, has_expiry, has_skipped
from kvsync.storages.expiry import parts_of
from kvsync.types import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from kvsync.filters import KeyFilter
    from kvsync.native import Unread
    from kvsync.scan.vouching import Voucher
    from kvsync.storages.contract import Storage

__all__ = ["Read", "confirm_gone", "look_up", "racy", "read_unread", "skipped"]

READ_COUNT = 256
"""Changed values between two looks at the lease, and absent ones looked for at a time."""


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), READ_COUNT):
        yield keys[start : start + READ_COUNT]


class Read(NamedTuple):
    """What was read; nothing of a value that is gone again.

    Attributes:
        found: the values.
        racy: keys whose token is too young to prove that the value does not change again unnoticed.
        unreadable: {key: why it cannot be read}.
        left: those of some keys in question that were listed, and not found.
        vouched: keys of values that were found without being read.
    """

    found: FoundValues
    racy: set[str]
    unreadable: dict[str, str]
    left: list[str]
    vouched: set[str]


def read_unread(
    storage: Storage,
    unread: Unread,
    started_ms: int,
    on_batch: Callable[[], None],
    *,
    asked: Collection[str],
    voucher: Voucher | None = None,
    keys_filter: KeyFilter | None = None,
) -> Read:
    """Read and digest the values that a listing has not read, some at a time.

    Args:
        storage: where they are.
        unread: their keys.
        started_ms: when the scan began.
        on_batch: called between batches, to keep the lease.
        asked: keys of which to say whether they are `left`.
        voucher: the other side, if it may vouch for values here, which are then not read.
        keys_filter: which keys to leave out.
    """
    read = Read(FoundValues(), set(), {}, [], set())
    for start in range(0, len(unread), BATCH_COUNT):
        keys, tokens, known = unread.part(start, start + BATCH_COUNT)
        if keys_filter is not None and (left_out := keys_filter.excluded(keys)):
            kept = [i for i, key in enumerate(keys) if key not in left_out]
            keys, tokens, known = [keys[i] for i in kept], [tokens[i] for i in kept], [known[i] for i in kept]
        listed = dict(zip(keys, tokens, strict=True))
        times = _times_of(storage, keys)
        vouched = voucher.of(storage, listed, on_batch) if voucher is not None else {}
        seen = _read(storage, [key for key in keys if key not in vouched], read.unreadable, on_batch)
        found = _found_values(storage, listed, times, seen | vouched)
        read.racy.update(racy(storage, {key: found[key].token for key in seen if key in found}, started_ms))
        read.vouched.update(vouched)
        follows = storage.capabilities.tokens == "blake3"
        for key, before in zip(keys, known, strict=True):
            if (value := found.get(key)) is not None:
                token = None if follows else value.token
                read.found.add(key, value.digest, value.size, value.expires or 0, token, before)
        read.left.extend(key for key in keys if key in asked and key not in found)
    return read


def _read(
    storage: Storage, keys: Sequence[str], unreadable: dict[str, str], on_batch: Callable[[], None]
) -> dict[str, tuple[bytes, int]]:
    """Return {key: (digest, size)} of the values of `keys`; note those that are `unreadable`."""
    seen: dict[str, tuple[bytes, int]] = {}
    for number, (key, found) in enumerate(digests(storage, keys)):
        if number % READ_COUNT == 0:
            on_batch()
        if isinstance(found, Digested):
            seen[key] = (found.digest, found.size)
        elif found is not None:
            unreadable[key] = found.reason
    return seen


def look_up(storage: Storage, found: FoundValues, keys: Sequence[str]) -> dict[str, FoundValue]:
    """Return what was found at those of `keys` where a value was."""
    keeps_times = has_expiry(storage)
    rows = zip(keys, found.find(keys), strict=True)
    return {
        key: FoundValue(digest, size, expires if keeps_times else None, token)
        for key, (digest, size, expires, token) in ((key, row) for key, row in rows if row is not None)
    }


def _times_of(storage: Storage, keys: Sequence[str]) -> dict[str, int]:
    """Return when values expire, where tokens do not say so; call it before they are read, as they may expire then."""
    if not has_expiry(storage) or storage.capabilities.tokens == "blake3":
        return {}
    return {key: time for some in _batches(keys) for key, time in zip(some, storage.expiries(some), strict=True)}


def _found_values(
    storage: Storage,
    listed: Mapping[str, bytes],
    times: Mapping[str, int],
    seen: Mapping[str, tuple[bytes, int]],
) -> dict[str, FoundValue]:
    """Return what was read, each value with a token that belongs to it."""
    if storage.capabilities.tokens != "blake3":
        return {key: FoundValue(*value, times.get(key), listed[key]) for key, value in seen.items()}
    if not has_expiry(storage):
        # The value may have changed since it was listed. What was read is what is known; its token is its digest.
        return {key: FoundValue(digest, size, token=digest) for key, (digest, size) in seen.items()}
    # The listed token says when a value expires, for that value alone: another value waits for the next scan.
    parts = {key: parts_of(listed[key]) for key in seen}
    return {
        key: FoundValue(digest, size, parts[key][1], listed[key])
        for key, (digest, size) in seen.items()
        if digest == parts[key][0]
    }


def confirm_gone(storage: Storage, keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the keys where a direct read finds nothing either, and {key: why} for those where it finds no value.

    A listing alone proves no delete, and a link or another entry in place of a value is none either.
    """
    gone: list[str] = []
    unreadable: dict[str, str] = {}
    for some in _batches(keys):
        for key, value in zip(some, storage.read(some), strict=True):
            if value is None:
                gone.append(key)
            elif isinstance(value, Unreadable):
                unreadable[key] = value.reason
    return gone, unreadable


def skipped(storage: Storage) -> dict[str, str]:
    """Return {name: why} of the entries that the listing skipped although they look like values."""
    if not has_skipped(storage):
        return {}
    return {entry.name: entry.reason for entry in storage.skipped if not entry.harmless}


def racy(storage: Storage, tokens: Mapping[str, bytes], started_ms: int) -> set[str]:
    """Return the keys whose token is too young to prove that the value does not change again unnoticed."""
    declared = storage.capabilities.tokens
    if not isinstance(declared, OpaqueTokens):
        return set()
    is_young = declared.is_young
    if is_young is not None:
        return {key for key, token in tokens.items() if is_young(token, started_ms)}
    if not declared.racy_ms:
        return set()
    keys = list(tokens)
    times = storage.modified_ms(keys)
    return {k for k, t in zip(keys, times, strict=True) if t is None or t >= started_ms - declared.racy_ms}
