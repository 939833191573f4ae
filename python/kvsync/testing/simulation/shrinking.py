"""Makes a failing history as small as it gets, so that people can read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kvsync.testing.simulation.events import Compact, Event, Forget, Scan, Sync, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvsync.testing.simulation.events import History

__all__ = ["shrunk"]


def shrunk(history: History, fails: Callable[[History], bool], *, tries_max: int = 2_000) -> History:
    """Return a part of `history` that still fails, from which no event can be left out."""
    tries = _Tries(fails, tries_max)
    while True:
        smaller = _with_fewer_events(history, tries)
        smaller = _with_simpler_events(smaller, tries)
        smaller = _with_fewer_edges(smaller, tries)
        if smaller == history or not tries.left:
            return smaller
        history = smaller


class _Tries:
    """Asks whether a history fails, a limited number of times."""

    def __init__(self, fails: Callable[[History], bool], left: int) -> None:
        self.fails, self.left = fails, left

    def __call__(self, history: History) -> bool:
        if not self.left:
            return False
        self.left -= 1
        return self.fails(history)


def _with_fewer_events(history: History, fails: _Tries) -> History:
    """Leave events out, first many at once, then one by one."""
    size = max(1, len(history.events) // 2)
    while True:
        at = len(history.events) - size
        while at > -size:
            events = history.events[: max(at, 0)] + history.events[at + size :]
            smaller = replace(history, events=events)
            if fails(smaller):
                history = smaller
            at -= size
        if size == 1:
            return history
        size //= 2


def _with_simpler_events(history: History, fails: _Tries) -> History:
    for at in range(len(history.events)):
        for simpler in _simpler(history.events[at]):
            events = (*history.events[:at], simpler, *history.events[at + 1 :])
            smaller = replace(history, events=events)
            if fails(smaller):
                history = smaller
                break
    return history


def _simpler(event: Event) -> Iterator[Event]:
    """Yield simpler events of the same kind."""
    plain: dict[str, Any] = {}
    if isinstance(event, Sync):
        plain = {
            "given": (),
            "crash": None,
            "backup": None,
            "meanwhile": (),
            "conflict": "latest",
            "scan": False,
            "read_only": False,
            "exclude": (),
            "direction": "both",
        }
        fewer = "given", event.given
    elif isinstance(event, Write):
        plain = {"crash": None}
        fewer = "writes", event.writes
    elif isinstance(event, (Scan, Compact, Forget)):
        plain, fewer = {"crash": None}, ("", ())
    else:
        return
    for name, value in plain.items():
        if getattr(event, name) != value:
            yield replace(event, **{name: value})
    name, writes = fewer
    for at in range(len(writes) if len(writes) > 1 else 0):
        yield replace(event, **{name: writes[:at] + writes[at + 1 :]})  # type: ignore[arg-type]


def _with_fewer_edges(history: History, fails: _Tries) -> History:
    """Leave out storages that need not be there, the last one first."""
    while len(history.kinds) > 2:
        last = len(history.kinds) - 1
        edges = tuple(edge for edge in history.edges if last not in edge)
        smaller = replace(history, kinds=history.kinds[:-1], edges=edges)
        if any(last in _places(event) for event in history.events) or not fails(smaller):
            return history
        history = smaller
    return history


def _places(event: Event) -> set[int]:
    return {getattr(event, name) for name in ("at", "of", "other", "source", "target") if hasattr(event, name)}
