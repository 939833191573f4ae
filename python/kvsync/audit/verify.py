"""Audit one or two storages, and repair what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kvsync.audit.index import look
from kvsync.audit.refill import refill
from kvsync.audit.repair import first_of, repair
from kvsync.audit.values import compare, leave_out
from kvsync.filters import filter_of
from kvsync.run import steps

if TYPE_CHECKING:
    from kvsync.audit.values import Verification
    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.storages.contract import Storage

__all__ = ["verify"]


def verify(
    source: Storage,
    target: Storage | None,
    options: Options,
    environment: Environment,
    *,
    repairs: bool = False,
    refills: bool = False,
) -> Verification:
    """Read every byte of each index and all values, and say what is wrong; see `kvsync.verify`."""
    storages = [source] if target is None else [source, target]
    mends = repairs or refills
    latest_ms = options.latest_ms(environment.now_ms())
    before = [finding for storage in storages for finding in look(storage, latest_ms).findings] if mends else []
    notes: list[str] = []
    if refills and target is not None:
        notes += [f"{source.name}: {note}" for note in refill(source, target, options, environment)]
    if mends:
        notes += [f"{one.name}: {note}" for one in storages for note in repair(one, options, environment)]
    if refills and target is not None:
        notes.append(_sync(source, target, options, environment))
    indexes = [look(storage, options.latest_ms(environment.now_ms())) for storage in storages]
    result = compare(indexes[0], None if target is None else indexes[1], environment)
    keys_filter = filter_of(options.include, options.exclude, storages)
    if keys_filter is not None:
        leave_out(result, keys_filter)
    left = set(result.findings)
    result.mended = [finding for finding in before if not finding.harmless and finding not in left]
    result.notes = notes
    return result


def _sync(source: Storage, target: Storage, options: Options, environment: Environment) -> str:
    """Make the two equal, and return what that did."""
    done = steps.sync(source, target, (), replace(options, scan=True), environment)
    told = f"synced: {done.pulled} values came to {source.name}, {done.pushed} to {target.name}"
    keys = sorted(conflict.key for conflict in done.conflicts)
    return f"{told}; these keys were conflicts: {first_of(keys)}" if keys else told
