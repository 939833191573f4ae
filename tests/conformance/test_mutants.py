"""The suite catches what it is for: it passes a sound storage, and fails every broken one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mutants import MUTANTS, LocksItsProcessOnly

if TYPE_CHECKING:
    from collections.abc import Sequence

pytest_plugins = ["pytester"]

IN_MEMORY = """
import pytest
from kvsync.testing.conformance import StorageConformance
from {module} import {name}
from sound import Hooks, Sound

class TestMutant(Hooks, StorageConformance):
    expects = {expects}.capabilities

    @pytest.fixture
    def reopen(self, disk):
        return lambda: {name}(disk)
"""

ON_DISK = """
from functools import partial
import pytest
from kvsync.testing.conformance import StorageConformance
from mutants import LocksItsProcessOnly

class TestMutant(StorageConformance):
    expects = LocksItsProcessOnly.capabilities

    @pytest.fixture
    def reopen(self, tmp_path):
        return partial(LocksItsProcessOnly, tmp_path / "kv.db", busy_timeout=30)
"""


def failing(pytester: pytest.Pytester, source: str, tests: Sequence[str] = ()) -> set[str]:
    """Run the suite, or some of its tests, against a storage; return the names of the tests that failed."""
    pytester.syspathinsert(Path(__file__).parent)
    path = pytester.makepyfile(test_mutant=source)
    chosen = [f"{path}::TestMutant::{name}" for name in tests] or [str(path)]
    passed, skipped, failed = pytester.inline_run("-q", "-p", "no:cacheprovider", *chosen).listoutcomes()
    assert len(passed) + len(failed) >= len(chosen)
    assert not skipped
    return {report.nodeid.rpartition("::")[2].partition("[")[0] for report in failed}


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr("kvsync.testing.conformance.hints.HINT_SECONDS", 0.3)


def test_a_sound_storage_passes(pytester: pytest.Pytester) -> None:
    assert failing(pytester, IN_MEMORY.format(module="sound", name="Sound", expects="Sound")) == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_storage_is_caught(pytester: pytest.Pytester, name: str) -> None:
    mutant = MUTANTS[name]
    # What it declares wrongly is what it is not expected to declare.
    expects = name if mutant.capabilities.tokens != "blake3" or name == "DeclaresMore" else "Sound"
    source = IN_MEMORY.format(module=mutant.__module__, name=name, expects=expects)
    assert failing(pytester, source, mutant.caught_by) == set(mutant.caught_by)


def test_a_lock_within_a_process_is_not_enough(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    path = pytester.makepyfile(test_mutant=ON_DISK)
    caught = LocksItsProcessOnly.caught_by[0]
    tests = [f"{path}::TestMutant::{name}" for name in (caught, "test_threads_that_replace_an_object_lose_no_update")]
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *tests)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"FAILED *{caught}*"])


def test_a_failed_assertion_shows_its_values(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    source = IN_MEMORY.format(module="mutants_of_values", name="ValuesCutAtMebibyte", expects="Sound")
    path = pytester.makepyfile(test_mutant=source)
    test = f"{path}::TestMutant::test_a_very_large_value_comes_back_whole_or_is_refused"
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", test)
    result.stdout.fnmatch_lines(["E *At index 0 diff: '1048576 bytes, *' != '9437184 bytes, *'"])


def test_a_class_that_expects_nothing_is_told_so(pytester: pytest.Pytester) -> None:
    source = "from kvsync.testing.conformance import StorageConformance\nclass TestIt(StorageConformance): pass"
    pytester.makepyfile(test_it=source)
    pytester.runpytest_inprocess().stdout.fnmatch_lines(["*TestIt does not say what its storage is to declare*"])


def test_a_storage_that_cannot_be_sent_to_processes_is_told_so(pytester: pytest.Pytester) -> None:
    unsendable = ON_DISK.replace("return partial", "made = partial") + "        return lambda: made()\n"
    pytester.syspathinsert(Path(__file__).parent)
    path = pytester.makepyfile(test_it=unsendable)
    result = pytester.runpytest_inprocess(f"{path}::TestMutant::{LocksItsProcessOnly.caught_by[0]}")
    result.stdout.fnmatch_lines(["*cannot be sent there*functools.partial*"])
