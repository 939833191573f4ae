"""When a value expires: what a caller may say, and what is made of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import kvsync
from kvsync import Delete, Put, UsageError
from kvsync.cli.changes import read_changes
from kvsync.cli.json_fields import change_fields, expiry_text
from kvsync.cli.summary import expiry_line
from kvsync.expiry import CLOCK_SKEW_MS, EXPIRES_MS_MAX, expires_ms, may_be_gone, unexpiring, write_until
from kvsync.native import Segment, digest_values
from kvsync.storages.mapping import MappingStorage
from kvsync.testing import ExpiringStorage
from kvsync.types import Change

if TYPE_CHECKING:
    from pathlib import Path

NOW_MS = 1_700_000_000_000
NO_TIMES = [
    True,
    False,
    float("nan"),
    float("inf"),
    float("-inf"),
    0,
    0.0001,
    -1,
    -1_700_000_000.0,
    (EXPIRES_MS_MAX + 1) // 1000 + 1,
    1e300,
    1e306,
    10**400,
    -(10**400),
    "1700000000",
    b"1",
    [1_700_000_000],
    1j,
]


@pytest.mark.parametrize("seconds", NO_TIMES, ids=lambda seconds: f"{seconds!r:.30}")
@pytest.mark.parametrize("stored", [True, False])
def test_what_is_no_time_is_refused_before_anything_is_written(seconds: Any, stored: bool) -> None:
    """Some of these overflowed on the way to a whole number, and said so instead of naming the key."""
    value = None if stored else b"v"
    with pytest.raises(UsageError, match="seconds since 1970") as refused:
        expires_ms(Put("the key", value, seconds))
    assert refused.value.key == "the key"
    here = {"the key": b"old"}
    there: dict[str, bytes] = {}
    with pytest.raises(UsageError, match="the key"):
        kvsync.sync(here, there, [Put("other", b"1"), Put("the key", value, seconds)])
    assert {key: here[key] for key in here if not key.startswith(".kvsync/")} == {"the key": b"old"}
    assert not [key for key in there if not key.startswith(".kvsync/")]
    assert not kvsync.log(here)


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (None, 0),
        (1, 1000),
        (0.001, 1),
        (1_700_000_000.123, 1_700_000_000_123),
        (1_700_000_000, NOW_MS),
        (EXPIRES_MS_MAX // 1000, EXPIRES_MS_MAX // 1000 * 1000),
    ],
)
def test_a_time_in_milliseconds(seconds: float | None, milliseconds: int) -> None:
    assert expires_ms(Put("k", b"v", seconds)) == milliseconds


def test_a_time_that_was_told_in_seconds_comes_back_to_the_millisecond() -> None:
    for expires in range(NOW_MS, NOW_MS + 20_000, 7):
        assert expires_ms(Put("k", b"v", expires / 1000)) == expires


def test_a_delete_never_expires() -> None:
    assert expires_ms(Delete("k")) == 0
    assert Delete("k").expires is None


def changed(expires: int) -> Change:
    return Change("k", 7, NOW_MS << 16, 0, 1, bytes(32), expires)


def test_a_change_expires_at_its_time_and_not_before() -> None:
    assert not changed(NOW_MS).expired(NOW_MS - 1)
    assert changed(NOW_MS).expired(NOW_MS)
    assert changed(NOW_MS).expired(NOW_MS + 1)
    assert not changed(0).expired(NOW_MS)


def test_a_server_may_be_a_little_ahead() -> None:
    assert may_be_gone(NOW_MS + CLOCK_SKEW_MS, NOW_MS)
    assert not may_be_gone(NOW_MS + CLOCK_SKEW_MS + 1, NOW_MS)
    assert not may_be_gone(0, NOW_MS)


def test_changes_that_differ_in_their_time_alone_have_one_outcome_and_an_order() -> None:
    assert changed(1).outcome == changed(2).outcome
    assert changed(1).order < changed(2).order


def test_a_plain_storage_is_told_no_time() -> None:
    data: dict[str, bytes] = {}
    write_until(MappingStorage(data), ["k"], [b"v"], [NOW_MS])
    assert data == {"k": b"v"}


def test_a_storage_that_keeps_time_is_told_it_with_what_it_must_find() -> None:
    storage = ExpiringStorage(clock=lambda: NOW_MS / 1000)
    write_until(storage, ["k", "stays"], [b"v", b"w"], [NOW_MS + 1, 0])
    assert storage.expiries(["k", "stays"]) == [NOW_MS + 1, 0]
    assert [refusal.key for refusal in write_until(storage, ["k"], [b"w"], [NOW_MS + 2], [None]).refused] == ["k"]
    token = digest_values([b"w"])[0]
    assert not write_until(storage, ["stays"], [b"x"], [NOW_MS + 2], [token]).refused
    assert storage.expiries(["k", "stays"]) == [NOW_MS + 1, NOW_MS + 2]


def test_values_that_would_stay_are_counted_without_those_that_have_expired() -> None:
    times = [NOW_MS, NOW_MS + 1, 0, NOW_MS + 2]
    segment = Segment.from_values(list("abcd"), [b"v"] * 4, 7, NOW_MS << 16, 0, times)
    assert unexpiring(segment, MappingStorage({}), NOW_MS) == 2
    assert unexpiring(segment, ExpiringStorage(), NOW_MS) == 0
    assert unexpiring(Segment.from_rows([]), MappingStorage({}), NOW_MS) == 0


# The command line


def read(folder: Path, *lines: str) -> list[Put | Delete]:
    path = folder / "changes"
    path.write_text("\n".join(lines))
    return read_changes(str(path))


def test_a_change_file_says_when_values_expire(tmp_path: Path) -> None:
    assert read(
        tmp_path,
        '{"op":"put","key":"a","value":"1","expires":1700000000.25}',
        '{"op":"put","key":"b","expires":1700000000}',
        '{"op":"put","key":"c","value":"1","expires":null}',
    ) == [Put("a", b"1", 1_700_000_000.25), Put("b", None, 1_700_000_000), Put("c", b"1")]


@pytest.mark.parametrize(
    "expires",
    ['"soon"', "true", "[]", "{}", "0", "-1", "NaN", "Infinity", "-Infinity", "1e400", "1e306", "1" + "0" * 400],
)
def test_a_change_file_with_no_time_names_its_line(tmp_path: Path, expires: str) -> None:
    with pytest.raises(UsageError, match="line 2") as refused:
        read(tmp_path, '{"op":"delete","key":"a"}', f'{{"op":"put","key":"k","value":"1","expires":{expires}}}')
    assert "since 1970" in refused.value.message


def test_a_delete_in_a_change_file_has_no_time(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='unknown field "expires" of a delete'):
        read(tmp_path, '{"op":"delete","key":"a","expires":1}')


def test_a_change_as_fields_and_as_text() -> None:
    assert change_fields(changed(NOW_MS + 250))["expires"] == 1_700_000_000.25
    assert change_fields(changed(0))["expires"] is None
    assert expiry_text(changed(NOW_MS + 250)) == ", expires 2023-11-14T22:13:20.250Z"
    assert expiry_text(changed(0)) == ""
    assert "beyond year 9999" in expiry_text(changed(EXPIRES_MS_MAX))
    json.dumps(change_fields(changed(EXPIRES_MS_MAX)))


def test_the_line_about_values_that_stay() -> None:
    assert list(expiry_line(0)) == []
    assert "1 value will stay" in next(iter(expiry_line(1)))
    assert "2 values will stay" in next(iter(expiry_line(2)))


def spoken(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> tuple[int, Any, str]:
    """Run a command as JSON and as text; return its exit code and both."""
    from kvsync.cli import main

    main([command, *arguments, "--json"])
    fields = json.loads(capsys.readouterr().out)
    code = main([command, *arguments])
    return code, fields, capsys.readouterr().out


def test_the_command_line_says_what_expires(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder and a database keep no time: both hold the value for good, and every command says so."""
    folder, database = tmp_path / "notes", f"sqlite:///{tmp_path}/app.db"
    folder.mkdir()
    changes = tmp_path / "changes"
    changes.write_text(
        '{"op":"put","key":"k","value":"1","expires":4102444800.5}\n{"op":"put","key":"l","value":"1"}\n'
    )
    given = [str(folder), database, "--changes", str(changes)]
    code, fields, text = spoken(capsys, "plan", *given)
    assert code == 0
    assert fields["expiry_ignored"] == 2
    assert [change["expires"] for change in fields["to_target"]] == [4_102_444_800.5, None]
    assert "'k' (1 byte, expires 2100-01-01T00:00:00.500Z)" in text
    assert "2 values will stay after expiring: the storage does not support expiry" in text
    _, fields, text = spoken(capsys, "sync", *given)
    assert fields["expiry_ignored"] == 2
    assert "2 values will stay" in text
    code, fields, text = spoken(capsys, "log", database)
    assert code == 0
    assert {change["key"]: change["expires"] for change in fields["changes"]} == {"k": 4_102_444_800.5, "l": None}
    assert "'k', expires 2100-01-01" in text
    assert "'l'\n" in text


def test_the_command_line_verifies_by_the_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What expired long ago and was not copied any more makes two storages no less equal."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "k").write_bytes(b"1")
    (folder / "l").write_bytes(b"1")
    peer = f"sqlite:///{tmp_path}/app.db"
    changes = tmp_path / "changes"
    changes.write_text('{"op":"put","key":"k","expires":1700000000}\n{"op":"put","key":"l"}\n')
    _, fields, _ = spoken(capsys, "sync", str(folder), peer, "--changes", str(changes), "--no-scan")
    assert fields["pushed"] == 2
    code, fields, text = spoken(capsys, "verify", str(folder), peer)
    assert code == 0
    assert (fields["equal"], fields["same"], fields["expired"]) == (True, 1, ["k"])
    assert "expired, but still stored on one side: 1 key" in text
    assert fields["only_source"] == []


def test_a_plan_in_print_says_what_stays() -> None:
    plan = kvsync.plan({}, {}, [Put("k", b"v", 4_102_444_800.0)])
    assert plan.expiry_ignored == 2
    assert "expiry: 2 values will stay after expiring" in str(plan)
    assert "expiry" not in str(kvsync.plan({}, {}, [Put("k", b"v")]))
