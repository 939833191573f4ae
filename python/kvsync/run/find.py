"""Step 2, first half: scan the storages, two servers at the same time, and stamp what was found."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from kvsync.run.lock import ensure_leased
from kvsync.scan import Voucher, claims_of, scan, stamped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvsync.environment import Environment
    from kvsync.options import Options
    from kvsync.run.side import Side
    from kvsync.scan import Scan

__all__ = ["find_changes"]

KEEP_SECONDS = 1.0
"""A side that is done keeps its lease so often until the other one is."""


def find_changes(sides: Sequence[Side], options: Options, environment: Environment) -> list[Side]:
    """Find what changed outside kvsync, without writing anything.

    Raises:
        BudgetError: more than allowed is gone or overwritten.
        StorageError: a storage cannot be listed completely.
    """
    scans = _scans(sides, options)
    changes = stamped([scanned.found for scanned in scans if scanned.found is not None], environment.now_ms())
    return [
        side._replace(scan=scanned.stamped(found)) for side, scanned, found in zip(sides, scans, changes, strict=True)
    ]


def _scans(sides: Sequence[Side], options: Options) -> list[Scan]:
    """Scan sides: servers at the same time, but for those that vouch for each other."""

    def scanned(side: Side, voucher: Voucher | None = None) -> Scan:
        return _scan(side, options, partial(_on_batch, side, options), voucher)

    if len(sides) == 1:
        return [scanned(side) for side in sides]
    source, target = sides
    if options.trust == "etag":
        return _scan_in_turn(source, target, scanned)
    if all(side.storage.capabilities.distance == "network" for side in sides):
        return _scan_both(source, target, options)
    return [scanned(source), scanned(target)]


def _scan_in_turn(source: Side, target: Side, scanned: Callable[..., Scan]) -> list[Scan]:
    """Scan the side last whose server tells hashes of its values: the other one vouches for them."""
    first, second = sorted((source, target), key=_is_scanned_last)
    known = scanned(first)
    found = scanned(second, Voucher(first.log.storage, known.current, known.racy))
    return [known, found] if first is source else [found, known]


def _is_scanned_last(side: Side) -> tuple[bool, bool]:
    """Whether it is better to know the other side first: it has to read its values, or knows more of them."""
    return claims_of(side.log.storage) is not None, not side.log.manifest.segments


class _StoppedError(Exception):
    """The scan of the other side has failed."""


class _Scanning(threading.Thread):
    """A scan in a thread of its own, which keeps the lease of its side meanwhile: nobody else touches that."""

    def __init__(self, side: Side, options: Options) -> None:
        super().__init__(name="kvsync-scan", daemon=True)
        self._side = side
        self._options = options
        self._stop_asked = threading.Event()
        self._scan_over = threading.Event()
        self._found: Scan | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Scan."""
        try:
            self._found = _scan(self._side, self._options, self._keep)
        except BaseException as error:  # noqa: BLE001 - the other thread raises it
            self._error = error
        finally:
            self._scan_over.set()

    def _keep(self) -> None:
        if self._stop_asked.is_set():
            raise _StoppedError
        _keep(self._side)

    def look(self) -> None:
        """Once it is done, keep the lease in its place.

        Raises:
            BaseException: what it raised.
        """
        if not self._scan_over.is_set():
            return
        if self._error is not None:
            raise self._error
        if self._side.lease is not None:
            self._side.lease.refresh()

    def is_done(self, seconds: float) -> bool:
        """Wait, but no longer than that, and return whether it is done."""
        return self._scan_over.wait(seconds)

    def result(self) -> Scan:
        """Return what it found, once it is done."""
        self.join()
        self.look()
        assert self._found is not None  # noqa: S101 - it is done, and raised nothing
        return self._found

    def stop(self) -> None:
        """Stop at the next batch, and wait for that: then its storage and its lease are free again."""
        self._stop_asked.set()
        self.join()


def _on_batch(side: Side, options: Options) -> None:
    options.check_cancelled()
    ensure_leased(side)


def _scan_both(one: Side, other: Side, options: Options) -> list[Scan]:
    """Scan two sides at the same time; if one fails, stop the other, and raise the error that came first."""
    scanning = _Scanning(other, options)

    def on_batch() -> None:
        options.check_cancelled()
        _keep(one)
        scanning.look()

    scanning.start()
    try:
        found = _scan(one, options, on_batch)
        while not scanning.is_done(KEEP_SECONDS):
            options.check_cancelled()
            _keep(one)
        return [found, scanning.result()]
    except BaseException:
        scanning.stop()
        raise


def _scan(side: Side, options: Options, on_batch: Callable[[], None], voucher: Voucher | None = None) -> Scan:
    return scan(side.log, side.origin, options.budget, on_batch, voucher, side.keys_filter, full=options.full)


def _keep(side: Side) -> None:
    """Keep the lease of one side alone."""
    if side.lease is not None:
        side.lease.keep()
