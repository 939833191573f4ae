"""The wire between a run and a storage: it fails where an event says, and notes the write at which a run is cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvsync.testing.faults import Fault, FaultyStorage, Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsync.storages.contract import Storage
    from kvsync.testing.simulation.events import Crash

__all__ = ["CutOff", "ValueFault", "Wire", "fault_of"]


@dataclass(frozen=True)
class CutOff:
    """A write that a run had sent when it was cut off: the storage's number, the method and its arguments."""

    at: int
    method: str
    arguments: tuple[Any, ...]


@dataclass
class ValueFault(Fault):
    """A fault at one of the values that a run writes or deletes.

    Attributes:
        left: how many are left, with that one.
    """

    left: int = 1

    def call(self, method: str, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if method in {"write", "delete"}:
            self.left -= 1
            if self.left == 0:
                self.at = self.count + 1
        return super().call(method, operation, *args, **kwargs)


def fault_of(crash: Crash | None) -> Fault:
    """Return the fault that an event asks for."""
    if crash is None:
        return Fault()
    if crash.of_values:
        return ValueFault(mode=crash.mode, left=crash.operation)
    return Fault(crash.operation, crash.mode)


class Wire(FaultyStorage):
    """A storage behind a fault.

    Attributes:
        cut_off: the write at which the run was killed, if it may still land: it is conditional on a value that is
            there. Where it is to create a key, a delete makes its condition hold again (docs/protocol.md).
    """

    def __init__(self, inner: Storage, fault: Fault, number: int, name: str) -> None:
        super().__init__(inner, fault)
        self.name = name
        self.number = number
        self.cut_off: CutOff | None = None

    def around(self, method: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return super().around(method, call, *args, **kwargs)
        except Killed:
            if method in {"write", "delete"} and self._may_land(args[-1]):
                self.cut_off = CutOff(self.number, method, args)
            raise

    def _may_land(self, expect: list[bytes | None] | None) -> bool:
        if self.fault.mode != "killed" or self.cut_off is not None:
            return False
        return bool(expect) and expect is not None and expect[0] is not None
