"""Random histories of three storages, some of whose index objects are damaged and repaired, or whose values are lost.

Every value that somebody wrote, and that nobody has replaced or deleted since while it was there, is in the end what
its key holds, or is kept. No value that somebody replaced or deleted is back without a word.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import kvsync
from kvsync.index import compaction
from kvsync.testing import virtual_environment

if TYPE_CHECKING:
    from kvsync.environment import Environment

SEEDS = 40
STEPS = 30
INDEX = ".kvsync/"
KEYS = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def _small_inline_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments be objects of their own, which can be damaged apart from the manifest."""
    monkeypatch.setattr(compaction, "INLINE_BYTES_MAX", 250)


def values(data: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in data.items() if not key.startswith(INDEX)}


@dataclass
class History:
    """Three storages, and what was done to them.

    Attributes:
        written: every value that was written, with its key.
        replaced: those that somebody has replaced or deleted where they were.
        excused: those that a disaster took.
        told: keys that a repair or a conflict named.
        story: what happened, for whoever reads a failure.
    """

    seed: int
    data: list[dict[str, bytes]] = field(default_factory=lambda: [{}, {}, {}])
    written: set[tuple[str, bytes]] = field(default_factory=set)
    replaced: set[tuple[str, bytes]] = field(default_factory=set)
    excused: set[tuple[str, bytes]] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.environment: Environment = virtual_environment(seed=self.seed)

    def run(self) -> None:
        steps = [self.edit] * 6 + [self.commit] * 3 + [self.meet] * 6 + [self.damage] * 2 + [self.lose]
        for _ in range(STEPS):
            self.environment.sleep(self.chance.random() * 100)
            self.chance.choice(steps)()
        for _ in range(2):
            for one, other in ((0, 1), (1, 2), (0, 2)):
                self.sync(one, other)

    # What happens

    def change(self, where: int) -> tuple[str, bytes | None]:
        """Draw a change of a key, and note what it replaces."""
        key = self.chance.choice(KEYS)
        there = self.data[where].get(key)
        if there is not None:
            self.replaced.add((key, there))
        if there is not None and self.chance.random() < 0.3:
            return key, None
        value = b"%d" % len(self.written)
        self.written.add((key, value))
        return key, value

    def edit(self) -> None:
        where = self.chance.randrange(3)
        key, value = self.change(where)
        if value is None:
            del self.data[where][key]
        else:
            self.data[where][key] = value
        self.story.append(f"edit {where} {key} {value!r}")

    def commit(self) -> None:
        where = self.chance.randrange(3)
        key, value = self.change(where)
        change = kvsync.Delete(key) if value is None else kvsync.Put(key, value)
        kvsync.commit(self.data[where], [change], environment=self.environment)
        self.story.append(f"commit {where} {key} {value!r}")

    def meet(self) -> None:
        one, other = self.chance.sample(range(3), 2)
        self.sync(one, other)

    def sync(self, one: int, other: int) -> None:
        result = kvsync.sync(
            self.data[one], self.data[other], scan=True, max_delete="100%", environment=self.environment
        )
        self.told |= {conflict.key for conflict in result.conflicts}
        conflicts = [(conflict.key, conflict.winner) for conflict in result.conflicts]
        self.story.append(f"sync {one} {other}: {conflicts} {values(self.data[one])}")

    def damage(self) -> None:
        """Damage or remove an index object, and repair that."""
        where = self.chance.randrange(3)
        data = self.data[where]
        names = sorted(name for name in data if name.startswith(INDEX) and not name.startswith(f"{INDEX}damaged/"))
        if not names:
            return
        name = self.chance.choice([*names, f"{INDEX}manifest" if f"{INDEX}manifest" in names else names[0]])
        if name.startswith(f"{INDEX}lost/"):
            self.excused |= {(value.key, value.value) for value in kvsync.lost(data)}
        whole = data.pop(name)
        if self.chance.random() < 0.7:
            at = self.chance.randrange(len(whole))
            data[name] = whole[:at] + bytes([whole[at] ^ 1 << self.chance.randrange(8)]) + whole[at + 1 :]
        self.verify(where, None, f"damage {where} {name}")

    def lose(self) -> None:
        """Lose some values, and bring them back from another storage."""
        where, other = self.chance.sample(range(3), 2)
        for key, value in values(self.data[where]).items():
            if self.chance.random() < 0.7:
                self.excused.add((key, value))
                del self.data[where][key]
        self.verify(where, other, f"lose {where} {other}")

    def verify(self, where: int, other: int | None, what: str) -> None:
        target = None if other is None else self.data[other]
        found = kvsync.verify(
            self.data[where],
            target,
            repair=True,
            refill=other is not None,
            max_delete="100%",
            environment=self.environment,
        )
        notes = [note.partition(": ")[2] or note for note in found.notes]
        self.story.append(f"{what}: {notes} {values(self.data[where])}")
        self.told |= {key for key in KEYS if any(repr(key) in note for note in found.notes)}
        assert found.intact

    # What must hold

    def problems(self) -> list[str]:
        """Return what is wrong in the end."""
        end = values(self.data[0])
        if any(values(data) != end for data in self.data):
            return [f"differ: {[values(data) for data in self.data]}"]
        kept = {(value.key, value.value) for data in self.data for value in kvsync.lost(data)}
        lost = self.written - self.replaced - self.excused - kept - set(end.items())
        back = {(key, value) for key, value in end.items() if (key, value) in self.replaced and key not in self.told}
        return [f"lost: {entry}" for entry in sorted(lost)] + [f"back: {entry}" for entry in sorted(back)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_or_back_without_a_word(seed: int) -> None:
    history = History(seed)
    history.run()
    assert history.problems() == [], "\n".join(history.story)
