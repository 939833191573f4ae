"""Histories that lose nothing, and that a simulator with careless bookkeeping would complain of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvsync.testing.simulation.disks import DISKS
from kvsync.testing.simulation.events import (
    BackUp,
    Clone,
    Crash,
    Damage,
    History,
    Newcomer,
    PutBack,
    Scan,
    Sync,
    TakenMeanwhile,
    Write,
    WrittenMeanwhile,
    Wrote,
)
from kvsync.testing.simulation.schedule import Setting
from kvsync.testing.simulation.simulating import Simulator

if TYPE_CHECKING:
    from pathlib import Path

HISTORIES = {
    "a delete during a run spreads, and then its storage is replaced": History(
        seed=7001234,
        kinds=("bucket", "bucket", "bucket"),
        edges=((0, 1), (1, 2)),
        events=(
            Write(23, 0.001, at=1, writes=(Wrote(17, "k1"),), logged=False),
            Sync(24, 0.001, source=2, target=1, scan=True, guard="check"),
            Write(32, 0.001, at=1, writes=(Wrote(25, "k1"),), logged=False),
            Sync(34, 1.0, 2, 1, scan=True, guard="check", crash=Crash(1, "killed", ends=False, of_values=True)),
            Sync(
                41,
                0.0,
                source=1,
                target=0,
                scan=True,
                guard="check",
                meanwhile=(
                    WrittenMeanwhile(12, of_target=False, wrote=Wrote(36, "k2", deletes=True)),
                    WrittenMeanwhile(39, of_target=False, wrote=Wrote(37, "k1", deletes=True)),
                ),
            ),
            Clone(43, 0.0, at=1, of=2),
        ),
        grace="10s",
    ),
    "a value is deleted unseen, and its only copy is replaced": History(
        seed=20001470,
        kinds=("database", "dict", "bucket", "dict"),
        edges=((0, 1), (0, 2), (2, 3)),
        events=(
            Write(23, 30.0, at=1, writes=(Wrote(11, "k1"),), logged=False),
            Clone(24, 30.0, at=3, of=1),
            Write(25, 0.0, at=1, writes=(Wrote(12, "k1", deletes=True),), logged=False),
            Write(26, 0.001, at=0, writes=(Wrote(13, "k1"),), logged=True),
            Clone(28, 1.0, at=3, of=1),
        ),
        grace="0s",
    ),
    "a damaged storage is backed up, mended, and put back": History(
        seed=7101142,
        kinds=("dict", "dict"),
        edges=((0, 1),),
        events=(
            Write(1, 1.0, at=1, writes=(Wrote(1, "k3"),), logged=True),
            Damage(2, 1.0, at=1, way="flip", which=0.0, where=0.9, other=0),
            BackUp(3, 1.0, at=1),
            Scan(4, 1.0, at=1),
            PutBack(5, 1.0, at=1, backup=3),
        ),
        grace="30d",
    ),
    "a run passes on a delete that is made while it goes on": History(
        seed=50196,
        kinds=("dict", "dict", "dict"),
        edges=((0, 1), (1, 2)),
        events=(
            Write(1, 30.0, at=0, writes=(Wrote(1, "k2"),), logged=True),
            Sync(2, 0.0, source=1, target=0, scan=False, guard="check"),
            Sync(
                3,
                0.0,
                source=2,
                target=1,
                scan=True,
                guard="check",
                meanwhile=(WrittenMeanwhile(8, of_target=True, wrote=Wrote(6, "k2", deletes=True)),),
            ),
            Write(7, 1.0, at=2, writes=(Wrote(10, "k2"),), logged=True),
        ),
        grace="30d",
    ),
    "a delete is given at a key of which the index knows nothing": History(
        seed=1261,
        kinds=("dict", "dict"),
        edges=((0, 1),),
        events=(
            Write(2, 0.0, at=0, writes=(Wrote(1, "k2"),), logged=False),
            Sync(4, 0.001, source=1, target=0, scan=True, guard="check", backup=TakenMeanwhile(1, of_target=True)),
            Write(9, 0.001, at=1, writes=(Wrote(7, "k2"),), logged=True),
            PutBack(11, 1.0, at=0, backup=4),
            Sync(13, 30.0, 0, 1, (Wrote(10, "k2", deletes=True),), "target", scan=False, guard="check"),
        ),
        grace="30d",
    ),
    "a delete is given, and a run is cut off that puts what beats it in its place": History(
        seed=40012149,
        kinds=("bucket", "dict", "dict", "bucket", "database"),
        edges=((0, 1), (1, 2), (0, 3), (1, 4), (2, 3), (2, 4), (3, 4)),
        events=(
            Write(6, 0.001, at=4, writes=(Wrote(1, "k1"),), logged=True),
            Sync(9, 30.0, 3, 4, (Wrote(3, "k1"),), "keep-both", scan=False, guard="check"),
            Write(18, 1.0, at=2, writes=(Wrote(6, "k1"),), logged=True),
            Sync(
                25,
                1.0,
                2,
                4,
                (Wrote(11, "k1", deletes=True),),
                "target",
                crash=Crash(3, "killed", ends=False, of_values=True),
            ),
        ),
        grace="0s",
    ),
    "a copy of a value is changed and deleted unseen": History(
        seed=20005236,
        kinds=("database", "database", "database"),
        edges=((0, 1), (0, 2)),
        events=(
            BackUp(3, 30.0, at=2),
            Write(26, 1.0, at=2, writes=(Wrote(17, "k1"),), logged=False),
            Clone(27, 0.001, at=0, of=2),
            Write(30, 30.0, at=0, writes=(Wrote(18, "k1"),), logged=False),
            Write(31, 30.0, at=1, writes=(Wrote(23, "k1"),), logged=True),
            PutBack(33, 1.0, at=2, backup=3),
            Write(34, 0.0, at=0, writes=(Wrote(25, "k1", deletes=True),), logged=False),
        ),
        grace="0s",
    ),
    "a delete is undone by a backup from the middle of the run that brought the value": History(
        seed=5271,
        kinds=("dict", "database"),
        edges=((0, 1),),
        events=(
            Sync(2, 1.0, 0, 1, (Wrote(1, "k2"),), guard="check", backup=TakenMeanwhile(8, of_target=False)),
            Write(13, 0.001, at=0, writes=(Wrote(14, "k2", deletes=True),), logged=False),
            PutBack(16, 1.0, at=0, backup=2),
        ),
        grace="0s",
    ),
    "the manifest of a storage comes after the storage was replaced by an empty one": History(
        seed=5003,
        kinds=("database", "database"),
        edges=((0, 1),),
        events=(
            Write(7, 30.0, at=0, writes=(Wrote(8, "k3"),), logged=True),
            Clone(9, 1.0, at=1, of=0),
            BackUp(10, 1.0, at=0),
            Newcomer(15, 0.0, at=0),
            Scan(16, 0.001, at=0),
            Damage(20, 0.0, at=0, way="older", which=0.6, where=0.15, other=0),
        ),
        grace="10s",
    ),
    "the only holder of what came after a delete is put back to before it": History(
        seed=71001446,
        kinds=("bucket", "bucket"),
        edges=((0, 1),),
        events=(
            Sync(2, 1.0, 0, 1, (Wrote(2, "k2"),), scan=True, guard="check"),
            BackUp(3, 1.0, at=0),
            Write(4, 1.0, at=0, writes=(Wrote(5, "k2", deletes=True),), logged=True),
            Sync(5, 1.0, source=0, target=1, guard="check"),
            Write(6, 1.0, at=0, writes=(Wrote(10, "k2"),), logged=True),
            Write(7, 1.0, at=0, writes=(Wrote(13, "k2"),), logged=False),
            Sync(8, 1.0, source=0, target=1, guard="check"),
            PutBack(9, 1.0, at=0, backup=3),
        ),
        grace="0s",
    ),
    "a delete of what a run may not have seen spreads, and then all who hold it are replaced": History(
        seed=80009811,
        kinds=("dict", "dict", "dict"),
        edges=((0, 1), (0, 2)),
        events=(
            Sync(
                38,
                0.001,
                source=0,
                target=1,
                scan=True,
                guard="check",
                meanwhile=(WrittenMeanwhile(7, of_target=True, wrote=Wrote(45, "k2")),),
            ),
            Write(39, 0.0, at=1, writes=(Wrote(46, "k2", deletes=True),), logged=False),
            Sync(41, 0.0, source=1, target=0, scan=True, guard="check"),
            Clone(42, 0.0, at=1, of=2),
            Newcomer(45, 30.0, at=0),
        ),
        grace="0s",
    ),
    "a delete that nobody logged is met as a missing value, and then its storage is replaced": History(
        seed=100036499,
        kinds=("database", "database", "dict"),
        edges=((0, 1), (0, 2), (1, 2)),
        events=(
            Write(13, 1.0, at=1, writes=(Wrote(7, "k1"),), logged=True),
            Sync(15, 1.0, source=0, target=1, guard="check"),
            Write(16, 0.0, at=1, writes=(Wrote(8, "k1", deletes=True),), logged=False),
            Sync(18, 30.0, source=1, target=2, guard="check"),
            Clone(19, 0.001, at=1, of=0),
        ),
        grace="10s",
    ),
    "a delete that was known before is met beside a later one, which is undone by a backup": History(
        seed=100106556,
        kinds=("bucket", "database"),
        edges=((0, 1),),
        events=(
            Write(5, 0.0, at=1, writes=(Wrote(4, "k4", deletes=True),), logged=True),
            Sync(7, 0.001, source=1, target=0, guard="check"),
            Write(10, 0.0, at=1, writes=(Wrote(9, "k4"),), logged=False),
            BackUp(11, 1.0, at=1),
            Sync(
                12,
                1.0,
                source=0,
                target=1,
                scan=True,
                guard="check",
                meanwhile=(
                    WrittenMeanwhile(9, of_target=True, wrote=Wrote(11, "k4", deletes=True)),
                    WrittenMeanwhile(32, of_target=True, wrote=Wrote(12, "k2", deletes=True)),
                ),
            ),
            PutBack(13, 30.0, at=1, backup=11),
        ),
        grace="10s",
    ),
    "a delete that is made during a run spreads in it, and then all who hold it are put back": History(
        seed=80029834,
        kinds=("database", "database"),
        edges=((0, 1),),
        events=(
            BackUp(22, 0.001, at=1),
            Write(23, 1.0, at=1, writes=(Wrote(12, "k2"),), logged=True),
            BackUp(27, 0.0, at=0),
            Sync(28, 30.0, source=0, target=1, guard="check"),
            Clone(32, 0.0, at=1, of=0),
            Sync(
                33,
                30.0,
                source=1,
                target=0,
                scan=True,
                guard="check",
                meanwhile=(
                    WrittenMeanwhile(2, of_target=False, wrote=Wrote(18, "k2", deletes=True)),
                    WrittenMeanwhile(19, of_target=False, wrote=Wrote(19, "k1", deletes=True)),
                ),
            ),
            PutBack(34, 1.0, at=0, backup=27),
            PutBack(35, 0.001, at=1, backup=22),
        ),
        grace="0s",
    ),
    "a run fails after it decided against a delete, and a value is there by then": History(
        seed=469,
        kinds=("database", "bucket", "bucket"),
        edges=((0, 1), (0, 2), (1, 2)),
        events=(
            Write(14, 30.0, at=0, writes=(Wrote(12, "k2"),), logged=False),
            Write(15, 30.0, at=0, writes=(Wrote(13, "k1"),), logged=True),
            Write(28, 30.0, at=2, writes=(Wrote(25, "k2", deletes=True),), logged=True),
            Sync(31, 30.0, source=0, target=1, scan=True, guard="check"),
            Write(40, 1.0, at=0, writes=(Wrote(39, "k1"),), logged=False),
            Sync(
                41,
                0.0,
                source=0,
                target=2,
                scan=True,
                guard="check",
                crash=Crash(21, "raises", ends=False, of_values=False),
                meanwhile=(
                    WrittenMeanwhile(24, of_target=True, wrote=Wrote(40, "k1", deletes=True)),
                    WrittenMeanwhile(28, of_target=True, wrote=Wrote(41, "k2", deletes=True)),
                ),
            ),
        ),
    ),
    "a value is deleted while a run is about to move it, and comes back with a backup": History(
        seed=81002418,
        kinds=("dict", "bucket"),
        edges=((0, 1),),
        events=(
            Write(78, 1.0, at=0, writes=(Wrote(65, "k1"), Wrote(67, "k3", deletes=True)), logged=True),
            BackUp(81, 1.0, at=0),
            Sync(
                83,
                1.0,
                source=0,
                target=1,
                scan=True,
                guard="check",
                meanwhile=(WrittenMeanwhile(14, of_target=False, wrote=Wrote(69, "k1", deletes=True)),),
            ),
            PutBack(84, 0.0, at=0, backup=81),
        ),
        grace="0s",
    ),
    "a storage answers what a neighbour asks again after every round": History(
        seed=20000800,
        kinds=("dict", "dict", "dict", "dict", "bucket"),
        edges=((0, 1), (0, 2), (1, 3), (1, 4)),
        events=(
            Sync(2, 30.0, source=0, target=2, scan=True, guard="check"),
            Clone(18, 1.0, at=3, of=0),
            Write(25, 30.0, at=3, writes=(Wrote(7, "k2"),), logged=True),
            Write(41, 30.0, at=1, writes=(Wrote(19, "k2"),), logged=False),
            Sync(42, 1.0, source=1, target=3, guard="check"),
            Write(55, 0.0, at=0, writes=(Wrote(39, "k3"),), logged=True),
        ),
        grace="0s",
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_that_loses_nothing_is_no_failure(name: str, tmp_path: Path) -> None:
    simulator = Simulator(Setting(), DISKS, str(tmp_path))
    _, broken = simulator.attempt(HISTORIES[name])
    assert broken is None
