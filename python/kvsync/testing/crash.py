"""Crash a run at every operation that it makes, in every way an operation can fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kvsync.errors import KvsyncError
from kvsync.testing.faults import FAULT_MODES, Fault, Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kvsync.testing.faults import FaultMode

__all__ = ["crashes"]

World = TypeVar("World")


def crashes(
    make: Callable[[], World],
    run: Callable[[World, Fault], object],
    *,
    modes: Sequence[FaultMode] = FAULT_MODES,
    operations_max: int = 10_000,
) -> Iterator[tuple[Fault, World]]:
    """Run in a fresh world again and again, and fail at another operation each time; yield what each run leaves.

    For each way to fail, the run fails at its first operation, then at its second, and so on, until it gets through
    without a fault. After each failure the caller repairs the world, as the next run would, and checks it.

    Args:
        make: returns a fresh world, always in the same state: the storages, and whatever else the run needs.
        run: does what is to be crashed. It puts `FaultyStorage(storage, fault)` in the place of each storage.
        modes: in which ways it fails.
        operations_max: how many operations a run may make.

    >>> import kvsync
    >>> from kvsync.storages.mapping import MappingStorage
    >>> from kvsync.testing import FaultyStorage, virtual_environment
    >>> def make():
    ...     return {"a": b"1"}, {}, virtual_environment()
    >>> def run(world, fault):
    ...     source, target = (FaultyStorage(MappingStorage(data), fault) for data in world[:2])
    ...     kvsync.sync(source, target, scan=True, environment=world[2])
    >>> points = 0
    >>> for fault, (source, target, environment) in crashes(make, run):
    ...     _ = kvsync.sync(source, target, scan=True, wait_seconds=200, environment=environment)
    ...     assert source["a"] == target["a"] == b"1", fault
    ...     points += 1
    >>> points > 40
    True

    Raises:
        AssertionError: no operation of the run passes through the fault, or the run never ends.
    """
    for mode in modes:
        for at in range(1, operations_max + 1):
            world, fault = make(), Fault(at, mode)
            _run_into(run, world, fault)
            if not fault.happened:
                assert fault.count, "the run makes no operation: give it FaultyStorage(storage, fault)"
                break
            yield fault, world
        else:
            message = f"the run has not ended after {operations_max} operations"
            raise AssertionError(message)


def _run_into(run: Callable[[World, Fault], object], world: World, fault: Fault) -> None:
    """Run until the end or the fault; an error that came before the fault is the run's own."""
    try:
        run(world, fault)
    except (Killed, KvsyncError):
        if not fault.happened:
            raise
