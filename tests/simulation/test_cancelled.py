"""A run that is cancelled at any batch stops there, and the next run ends as if nothing had happened."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Delete, Put
from kvsync.environment import Environment
from kvsync.options import Options
from kvsync.run import transfer
from kvsync.run.lock import lock
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [f"k{number}" for number in range(7)]


class Stop:
    """Cancels a run at the report of that number."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.cancel = threading.Event()

    def __call__(self, _progress: kvsync.Progress) -> None:
        self.left -= 1
        if self.left == 0:
            self.cancel.set()


def values(storage: Any) -> dict[str, bytes]:
    with kvsync.open(storage) as store:
        return store.copy()


def pair(kind: str, folder: Path) -> tuple[Any, Any]:
    """Return two storages that have much to tell each other, and a conflict."""
    folder.mkdir(exist_ok=True)
    one: Any = {}
    other: Any = {"dict": {}, "folder": str(folder / "other"), "sqlite": f"sqlite:///{folder}/other.db"}[kind]
    kvsync.sync(one, other, [Put(key, b"old") for key in (*KEYS, "gone", "both")])
    kvsync.commit(one, [*(Put(key, b"new") for key in KEYS), Delete("gone"), Put("both", b"ours")])
    kvsync.commit(other, [*(Put(f"their {key}", b"theirs") for key in KEYS), Put("both", b"theirs")])
    return one, other


@pytest.mark.parametrize("kind", ["dict", "folder", "sqlite"])
@pytest.mark.parametrize("scan", [True, False])
def test_a_run_cancelled_at_each_batch_is_finished_by_the_next(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, scan: bool
) -> None:
    monkeypatch.setattr(transfer, "BATCH_COUNT", 2)
    one, other = pair(kind, tmp_path / "undisturbed")
    kvsync.sync(one, other, conflict="source", scan=scan)
    expected = values(one)
    assert values(other) == expected
    for count in range(1, 100):
        one, other = pair(kind, tmp_path / str(count))
        stop = Stop(count)
        try:
            kvsync.sync(one, other, conflict="source", scan=scan, on_progress=stop, cancel=stop.cancel)
        except kvsync.CancelledError:
            assert stop.left == 0, "it stopped at once: after the batch, or at the beginning of the second direction"
        else:
            assert count > 7, "only a run that has moved everything goes on"
            break
        kvsync.sync(one, other, conflict="source", scan=scan, wait_seconds=0)
        assert values(one) == values(other) == expected


def test_a_cancelled_run_does_nothing() -> None:
    cancel = threading.Event()
    cancel.set()
    a, b = {"a": b"1"}, dict[str, bytes]()
    with pytest.raises(kvsync.CancelledError):
        kvsync.sync(a, b, scan=True, cancel=cancel)
    assert (a, b) == ({"a": b"1"}, {})


def test_a_run_that_waits_for_a_lease_can_be_cancelled() -> None:
    a: dict[str, bytes] = {}
    cancel = threading.Event()
    held, _ = open_storage(a)
    with lock((held,), Options(), Environment()), pytest.raises(kvsync.CancelledError):
        kvsync.sync(a, {}, scan=True, wait_seconds=600, cancel=cancel, on_progress=lambda _: cancel.set())


def test_a_large_value_is_given_up_in_its_middle(tmp_path: Path) -> None:
    """It is not in the target then, and moves as a whole with the next run."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    large = bytes(20 << 20)
    (one / "large").write_bytes(large)
    cancel, seen = threading.Event(), list[kvsync.Progress]()

    def stop(progress: kvsync.Progress) -> None:
        seen.append(progress)
        cancel.set()

    with pytest.raises(kvsync.CancelledError):
        kvsync.sync(one, other, scan=True, on_progress=stop, cancel=cancel)
    (progress,) = seen
    assert (progress.step, progress.done, progress.total) == ("push", 0, 1)
    assert 0 < progress.bytes_done < progress.bytes_total == len(large)
    assert not (other / "large").exists()
    cancel.clear()
    seen.clear()
    assert kvsync.sync(one, other, scan=True, on_progress=seen.append, cancel=cancel).bytes == len(large)
    assert [progress.step for progress in seen if progress.done] == ["recover", "push"]
    assert seen[-1].bytes_done == len(large)
    assert (other / "large").read_bytes() == large
