"""kvsync, dict to dict, beside PouchDB, memory to memory: the same keys, values and changes.

PouchDB runs in a Node process of its own and times itself, so that talking to it costs it nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Put
from measure import FULL, Line, Report, collector_off, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).with_name("pouchdb")
SIZES = (1_000, 10_000, 100_000) if FULL else (1_000, 5_000)
CHANGES = 100
ROUNDS = 21
IDLE_RUNS = 10
IDLE = "nothing to do"
BATCH = 1_000  # of PouchDB, whose default of 100 is slower here
RATIO_BAR = 20.0
IDLE_BAR_MS = 0.2

Texts = dict[str, str]


@dataclass
class Paired:
    """Seconds of the same work, ours and PouchDB's, run by run."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)


class Pouch:
    """A Node process that holds two PouchDB databases."""

    def __init__(self, node: str) -> None:
        self.process = subprocess.Popen(
            [node, HERE / "bench.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, command: str, **options: object) -> dict[str, Any]:
        """Run one command and return its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"command": command, **options}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the Node process ended; its own error stands above"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def write(self, side: str, texts: Texts) -> None:
        """Write to one side."""
        self.do("write", side=side, pairs=list(texts.items()))

    def sync(self, pushed: int, pulled: int) -> float:
        """Sync, see that all of it was done, and return the seconds."""
        answer = self.do("sync", batch=BATCH)
        assert (answer["pushed"], answer["pulled"]) == (pushed, pulled)
        return float(answer["milliseconds"]) / 1e3

    def digests(self) -> set[str]:
        """Return the digests of both sides, which are one where the sides are equal."""
        return {self.do("digest", side=side)["digest"] for side in "ab"}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def pouch() -> Iterator[Pouch]:
    """Give a running PouchDB; without Node there is none to compare with."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: nothing was compared with PouchDB")
    assert (HERE / "node_modules").is_dir(), f"run `npm ci` in {HERE} first"
    running = Pouch(node)
    yield running
    running.close()


class Dicts:
    """Two dicts, and kvsync between them."""

    def __init__(self) -> None:
        self.a: dict[str, bytes] = {}
        self.b: dict[str, bytes] = {}

    def copy(self, texts: Texts) -> None:
        """Bring all values to both, from a."""
        kvsync.sync(self.a, self.b, changes=puts(texts))

    def commit(self, on_a: Texts, on_b: Texts) -> None:
        """Change both sides."""
        kvsync.commit(self.a, puts(on_a))
        kvsync.commit(self.b, puts(on_b))

    def sync(self, pushed: int, pulled: int) -> float:
        """Sync, see that all of it was done, and return the seconds."""
        results: list[kvsync.SyncResult] = []
        seconds = seconds_of(lambda: results.append(kvsync.sync(self.a, self.b)))
        assert (results[0].pushed, results[0].pulled) == (pushed, pulled)
        return seconds

    def digests(self) -> set[str]:
        """Return the digests of both sides, made as `bench.mjs` makes them."""
        return {digest(side) for side in (self.a, self.b)}


def digest(values: dict[str, bytes]) -> str:
    """Return the SHA-256 of what a dict holds, its index apart."""
    lines = [f"{key}\0{text.decode()}\n" for key, text in values.items() if not key.startswith(".kvsync/")]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def puts(texts: Texts) -> list[Put]:
    """Return the changes that a caller makes of some texts."""
    return [Put(key, text.encode()) for key, text in texts.items()]


def initial(size: int) -> Texts:
    """Return what both sides hold at first."""
    return {f"key/{i:07d}": f"value {i} of many, at first" for i in range(size)}


def changed(size: int, turn: int, side: str) -> Texts:
    """Return new values for 100 keys; the other side changes 100 others."""
    step = size // CHANGES
    first = (2 * turn + (side == "b")) % step
    return {f"key/{i:07d}": f"value {i} of {side}, turn {turn}" for i in range(first, size, step)}


@pytest.mark.parametrize("size", SIZES)
def test_beside_pouchdb(report: Report, pouch: Pouch, size: int) -> None:
    """Time the run after an initial copy, runs of 100 changes on each side, and runs with nothing to do."""
    texts = initial(size)
    firsts = Paired([first_run(Dicts(), texts) for _ in range(ROUNDS)])
    ours = Dicts()
    ours.copy(texts)
    firsts.theirs.append(copied(pouch, texts))
    assert pouch.digests() == ours.digests()
    add = partial(tell, report, f"{size:,} keys")
    add("run after the initial copy", firsts)
    runs, idles = Paired(), Paired()
    with collector_off():
        for turn in range(ROUNDS):
            on_a, on_b = changed(size, turn, "a"), changed(size, turn, "b")
            ours.commit(on_a, on_b)
            runs.ours.append(ours.sync(CHANGES, CHANGES))
            pouch.write("a", on_a)
            pouch.write("b", on_b)
            runs.theirs.append(pouch.sync(CHANGES, CHANGES))
            idles.ours += [ours.sync(0, 0) for _ in range(IDLE_RUNS)]
            idles.theirs += [pouch.sync(0, 0) for _ in range(IDLE_RUNS)]
    digests = ours.digests()
    assert len(digests) == 1
    assert pouch.digests() == digests
    add(f"{CHANGES} changes on each side", runs)
    add(IDLE, idles)


def first_run(dicts: Dicts, texts: Texts) -> float:
    """Bring all values to both dicts and return the seconds of the run after that."""
    dicts.copy(texts)
    return dicts.sync(0, 0)


def copied(pouch: Pouch, texts: Texts) -> float:
    """Do the same with PouchDB, whose copy reads nothing back, so that its first run reads everything."""
    pouch.do("open")
    pouch.write("a", texts)
    assert pouch.do("copy", batch=BATCH)["written"] == len(texts)
    return pouch.sync(0, 0)


def tell(report: Report, work: str, what: str, seconds: Paired) -> None:
    """Report one work: both times as a rule, how many times faster we are, and the same of each one's luckiest run."""
    work = f"{work}, {what}"
    ours, theirs = median(seconds.ours), median(seconds.theirs)
    idle_bar, ratio_bar = (IDLE_BAR_MS, None) if what == IDLE else (None, RATIO_BAR)
    report.add(Line("pouchdb", work, "time", 1e3 * ours, "ms", idle_bar, detail=asdict(seconds)))
    report.add(Line("pouchdb", work, "PouchDB's time", 1e3 * theirs, "ms"))
    report.add(Line("pouchdb", work, "PouchDB / ours", theirs / ours, "x", ratio_bar, at_least=True))
    if len(seconds.theirs) > 1:
        best = min(seconds.theirs) / min(seconds.ours)
        report.add(Line("pouchdb", work, "PouchDB / ours, best runs", best, "x"))
