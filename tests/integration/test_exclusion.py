"""Eight processes and one lease: exactly one holder at any time, and no lost update of the manifest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from contender import COUNTER
from places import make
from variants import amount

import kvsync
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from places import Place

CONTENDERS = 8
ROUNDS = amount(20, 200)
KINDS = ("sqlite", "folder", "redis", "postgres", "s3", "nats", "lmdb")


def contend(place: Place, folder: Path, contenders: int = CONTENDERS, rounds: int = ROUNDS) -> None:
    """Let processes take turns until all are done; each must have ended well."""
    program = Path(__file__).with_name("contender.py")
    command = [sys.executable, program, place.target, str(contenders), str(rounds), folder]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=1200, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_one_holder_at_a_time_and_no_lost_update(kind: str, folder: Path) -> None:
    place = make(kind, folder, "one")
    contend(place, folder)
    storage, _ = open_storage(place.target)
    total = CONTENDERS * ROUNDS
    assert storage.read([COUNTER]) == [b"%d" % total]
    assert kvsync.status(storage).generation == total
    logged = {change.key for change in kvsync.log(storage)}
    assert logged == {f"contender {c}/{r}" for c in range(CONTENDERS) for r in range(ROUNDS)}
    storage.close()
