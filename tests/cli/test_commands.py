"""Every command: what it does, what it prints, and the shape of its JSON."""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.conftest import rows, statement

from kvsync.audit.values import Verification
from kvsync.cli.app import app
from kvsync.cli.exitcodes import DONE, FAILED, LOCKED, USAGE
from kvsync.environment import Environment
from kvsync.lease import LeaseRecord, LeaseState
from kvsync.options import Options
from kvsync.process import UNKNOWN, Process, this_process
from kvsync.result import UnreadableKey
from kvsync.run.lock import lock
from kvsync.storages import open_storage
from kvsync.storages.sqlite import SqliteStorage
from kvsync.types import ANY, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]
    Snapshot = Callable[[Path], dict[str, str]]


@contextmanager
def faulty_reads(key: str) -> Iterator[None]:
    """Let the value of a key be unreadable in SQLite meanwhile."""
    read, scan = SqliteStorage.read, SqliteStorage.scan

    def faulty(self: SqliteStorage, keys: Sequence[str]) -> list[bytes | Unreadable | None]:
        values = read(self, keys)
        return [Unreadable("worn out") if k == key else value for k, value in zip(keys, values, strict=True)]

    def without_token(self: SqliteStorage) -> Iterator[tuple[list[str], list[bytes]]]:
        for keys, tokens in scan(self):
            yield keys, [b"" if k == key else token for k, token in zip(keys, tokens, strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteStorage, "read", faulty)
        patch.setattr(SqliteStorage, "scan", without_token)
        yield


def test_sync_makes_a_folder_and_a_new_database_equal(run: Run, pair: Pair) -> None:
    first = run("sync", *pair)
    assert (first.code, first.err) == (DONE, "")
    assert first.out.splitlines() == [
        "notes <-> sqlite:///app.db",
        "  3 keys copied (6 B)",
        "  3 to the target, 0 to the source",
        "  created    the database 'app.db', the target",
    ]
    assert rows() == {"a": b"1", "b": b"22", "user/1": b"Ada"}
    statement("DELETE FROM kv WHERE key = 'a'")
    assert "  1 deleted\n  0 to the target, 1 to the source\n" in run("sync", *pair).out
    assert not Path("notes/a").exists()
    assert "nothing to do" in run("sync", *pair).out


def test_sync_json(run: Run, pair: Pair) -> None:
    answer = run("sync", *pair, "--json").json
    assert answer.keys() == {
        "source",
        "target",
        "direction",
        "dry_run",
        "pushed",
        "pulled",
        "bytes",
        "to_target",
        "to_source",
        "committed",
        "conflicts",
        "withheld",
        "left_out",
        "missing",
        "restored",
        "maybe_deleted",
        "unreadable",
        "operations",
        "expiry_ignored",
        "created",
        "notes",
        "hint",
        "lag_seconds",
        "guarantee",
        "seconds",
    }
    assert (answer["pushed"], answer["pulled"]) == (3, 0)
    assert answer["committed"] == {"source": 3, "target": 0}
    assert answer["bytes"] == 6
    assert answer["to_target"] == [
        {"key": key, "op": "put", "size": size} for key, size in (("a", 1), ("b", 2), ("user/1", 3))
    ]
    assert answer["to_source"] == []
    assert answer["operations"].keys() == {"source", "target"}


def test_quiet_prints_nothing_and_json_still_answers(run: Run, pair: Pair) -> None:
    assert run("sync", *pair, "--quiet") == (DONE, "", "")
    assert run("sync", *pair, "--quiet", "--json").json["pushed"] == 0


def test_sync_creates_a_target_folder(run: Run, pair: Pair) -> None:
    assert run("sync", pair[0], "copy/of/it").code == DONE
    assert Path("copy/of/it/user/1").read_bytes() == b"Ada"


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("command", [["sync", "--dry-run"], ["plan"]])
def test_a_dry_run_changes_no_byte(
    run: Run, pair: Pair, snapshot: Snapshot, command: list[str], *, fresh: bool
) -> None:
    if not fresh:
        run("sync", *pair)
        statement("INSERT INTO kv VALUES ('from-sqlite', x'00')")
        Path("notes/a").write_bytes(b"changed")
    Path("changes").write_text('{"op":"put","key":"given","value":"1"}\n', encoding="utf-8")
    before = snapshot(Path())
    assert run(*command, *pair).code == DONE
    assert run(*command, *pair, "--changes", "changes", "--scan", "--json").code == DONE
    assert snapshot(Path()) == before


def test_a_dry_run_reports_what_would_be_done(run: Run, pair: Pair) -> None:
    dry = run("sync", *pair, "--dry-run")
    assert "dry run: nothing is written" in dry.out
    assert "  3 keys to be copied (6 B)\n  3 to the target, 0 to the source\n" in dry.out
    answer = run("sync", *pair, "--dry-run", "--json").json
    assert answer["dry_run"] is True
    assert answer["pushed"] == 3


def test_plan_names_keys_and_sync_then_does_it(run: Run, pair: Pair) -> None:
    planned = run("plan", *pair)
    assert "to the target: 3 changes" in planned.out
    assert "put      'user/1' (3 bytes)" in planned.out
    answer = run("plan", *pair, "--json", "--guard", "check", "--wait-seconds", "1").json
    assert answer.keys() == {
        "source",
        "target",
        "direction",
        "withheld",
        "left_out",
        "empty",
        "to_target",
        "to_source",
        "conflicts",
        "missing",
        "unreadable",
        "expiry_ignored",
        "creates",
        "notes",
        "hint",
        "lag_seconds",
        "guarantee",
    }
    assert [change["key"] for change in answer["to_target"]] == ["a", "b", "user/1"]
    run("sync", *pair)
    assert "nothing to do" in run("plan", *pair).out
    assert run("plan", *pair, "--json").json["empty"] is True


def test_plan_shows_only_the_first_of_many(run: Run, pair: Pair) -> None:
    for number in range(30):
        Path(f"notes/n{number}").write_bytes(b"")
    planned = run("plan", *pair)
    assert "... and 13 more (--json lists all)" in planned.out
    assert len(run("plan", *pair, "--json").json["to_target"]) == 33


def test_a_conflict_is_reported_with_where_its_loser_is_kept(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    ended = run("sync", *pair, "--conflict", "source")
    assert "conflict   'a': the source wins; the other value is kept, and `kvsync restore" in ended.out
    command = shlex.split(ended.out.partition("`")[2].partition("`")[0])
    assert rows()["a"] == b"mine"
    assert run(*command[1:]).code == DONE
    assert rows()["a"] == b"theirs"


def test_keep_both_names_the_copy(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    (conflict,) = run("sync", *pair, "--conflict", "keep-both", "--json").json["conflicts"]
    assert conflict["key"] == "a"
    assert conflict["winner"] in {"source", "target"}
    assert conflict["restore"] == []
    assert {rows()["a"], rows()[conflict["kept_as"]]} == {b"mine", b"theirs"}
    assert conflict["source"].keys() == {
        "key",
        "op",
        "time",
        "stamp",
        "origin",
        "size",
        "digest",
        "decided",
        "exact",
        "expires",
    }


UNCERTAIN = "(it is not certain which change is the later one)"


@pytest.mark.parametrize("policy", ["latest", "keep-both", "source"])
def test_a_conflict_says_whether_its_order_is_certain(run: Run, pair: Pair, policy: str) -> None:
    """SQLite does not tell when a row was written, so the order is certain to nobody who goes by it."""
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    options = (*pair, "--conflict", policy)
    for command in ("plan", "sync"):
        assert (UNCERTAIN in run(command, *options, *(["--dry-run"] if command == "sync" else [])).out) == (
            policy != "source"
        )
    (conflict,) = run("sync", *options, "--json").json["conflicts"]
    assert (conflict["certain"], conflict["source"]["exact"], conflict["target"]["exact"]) == (False, True, False)


def test_of_two_files_the_order_is_certain(run: Run, pair: Pair) -> None:
    Path("two").mkdir()
    Path("two/a").write_bytes(b"theirs")
    ended = run("sync", pair[0], "two")
    assert "conflict   'a': " in ended.out
    assert UNCERTAIN not in ended.out


def test_a_delete_that_a_scan_found_is_undone_by_an_edit(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    Path("notes/a").unlink()
    ended = run("sync", *pair)
    assert f"conflict   'a': the target wins; the other side had deleted it {UNCERTAIN}" in ended.out
    assert Path("notes/a").read_bytes() == b"theirs"
    assert "(time not exact)" not in run("log", pair[1], "a").out
    statement("DELETE FROM kv WHERE key = 'b'")
    run("sync", *pair)
    assert "(time not exact)" in run("log", pair[1]).out


def test_a_key_that_the_target_cannot_hold_is_reported_and_all_others_move(run: Run, pair: Pair) -> None:
    statement("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB CHECK (length(value) < 3))")
    ended = run("sync", *pair)
    assert ended.code == FAILED
    assert "missing    'user/1' in the target: " in ended.out
    assert "warning: 1 key could not be moved" in ended.err
    assert rows() == {"a": b"1", "b": b"22"}
    again = run("sync", *pair, "--json", "--quiet")
    assert again.code == FAILED
    assert [(m["key"], m["side"]) for m in again.json["missing"]] == [("user/1", "target")]
    assert "missing    'user/1'" in run("status", pair[1]).out


def test_quiet_speaks_of_conflicts(run: Run, pair: Pair) -> None:
    """`--quiet` hid what was decided."""
    run("sync", *pair)
    Path("notes/a").write_bytes(b"mine")
    statement("UPDATE kv SET value = CAST('theirs' AS BLOB) WHERE key = 'a'")
    for ended in (run("plan", *pair, "--quiet"), run("sync", *pair, "--quiet", "--dry-run")):
        assert (ended.code, ended.out) == (DONE, "")
        assert "conflict   'a': the " in ended.err
    ended = run("sync", *pair, "--quiet", "--conflict", "source")
    assert (ended.code, ended.out) == (DONE, "")
    title, line = ended.err.splitlines()
    assert title == "kvsync: notes <-> sqlite:///app.db"
    assert line.startswith("  conflict   'a': the source wins; the other value is kept, and `kvsync restore ")
    assert run("sync", *pair, "--quiet") == (DONE, "", "")


def test_quiet_speaks_of_failures(run: Run, pair: Pair) -> None:
    statement("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB CHECK (length(value) < 3))")
    for command in (["sync"], ["plan"], ["sync", "--dry-run"]):
        ended = run(*command, *pair, "--quiet")
        assert (ended.code, ended.out) == (FAILED, "")
        assert "missing    'user/1' in the target: " in ended.err
    ended = run("verify", *pair, "--quiet")
    assert (ended.code, ended.out) == (FAILED, "")
    assert "NOT EQUAL" in ended.err
    assert "'user/1'" in ended.err
    Path("notes/.kvsync/manifest").write_bytes(b"nonsense")
    ended = run("doctor", pair[0], "--quiet")
    assert (ended.code, ended.out) == (FAILED, "")
    assert "problem" in ended.err


def test_plan_says_what_a_sync_would_leave_behind(run: Run, pair: Pair) -> None:
    """It said that there was nothing to do, and ended with 0, where a sync ended with 1."""
    statement("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB CHECK (length(value) < 3))")
    assert run("sync", *pair).code == FAILED
    planned = run("plan", *pair)
    assert planned.code == FAILED
    assert "nothing to do" not in planned.out
    assert "missing    'user/1' in the target: " in planned.out
    answer = run("plan", *pair, "--json")
    assert answer.code == FAILED
    assert answer.json["missing"] == run("sync", *pair, "--json").json["missing"]
    assert run("sync", *pair, "--dry-run").code == FAILED
    Path("notes/user/1").write_bytes(b"A")
    assert run("plan", *pair).code == DONE
    assert run("sync", *pair).code == DONE


def test_plan_and_verify_name_what_cannot_be_read(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    statement("INSERT INTO kv VALUES ('odd', x'00')")
    with faulty_reads("odd"):
        planned, verified, synced = (run(name, *pair, "--json") for name in ("plan", "verify", "sync"))
        for ended in (planned, verified, synced):
            assert ended.code == FAILED
            assert ended.json["unreadable"] == [{"key": "odd", "side": "target", "reason": "worn out"}]
        assert "unreadable 'odd' in the target: worn out" in run("plan", *pair).out
        assert run("commit", pair[1], "--json").json["unreadable"] == [{"key": "odd", "reason": "worn out"}]
        committed = run("commit", pair[1], "--quiet")
        assert (committed.code, committed.out) == (FAILED, "")
        assert "unreadable 'odd': worn out" in committed.err
    assert verified.json["only_target"] == []
    assert run("sync", *pair).code == DONE


def test_plan_leaves_out_deletes_of_what_is_not_there(run: Run, pair: Pair) -> None:
    """Against an empty folder it listed every delete that was ever logged."""
    run("sync", *pair)
    for name in ("a", "b"):
        Path("notes", name).unlink()
    run("sync", *pair)
    for options in ([], ["--no-scan"]):
        answer = run("plan", pair[0], "new", *options, "--json").json
        assert [(change["op"], change["key"]) for change in answer["to_target"]] == [("put", "user/1")]
    Path("notes/user/1").unlink()
    assert "delete   'user/1'" in run("plan", *pair, "--max-delete", "100%").out


def test_a_value_of_unknown_age_has_no_time(run: Run, pair: Pair) -> None:
    """Its time was shown as the beginning of 1970."""
    statement("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB)")
    statement("INSERT INTO kv VALUES ('k', x'00')")
    run("commit", pair[1])
    assert run("log", pair[1]).out.startswith("time unknown  ")
    (change,) = run("log", pair[1], "--json").json["changes"]
    assert change["time"] is None
    assert "up to an unknown time" in run("status", pair[1]).out
    assert "1970" not in run("status", pair[1], "--json").out


def test_changes_alone_do_not_scan(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/unseen").write_bytes(b"")
    Path("changes").write_text('{"op":"delete","key":"a"}\n', encoding="utf-8")
    assert run("sync", *pair, "--changes", "changes").code == DONE
    assert rows().keys() == {"b", "user/1"}
    assert run("sync", *pair, "--changes", "changes", "--scan").code == DONE
    assert rows().keys() == {"b", "user/1", "unseen"}


def test_no_scan_moves_only_logged_changes(run: Run, pair: Pair) -> None:
    assert run("sync", *pair, "--no-scan", "--json").json["pushed"] == 0
    committed = run("commit", pair[0], "--json").json
    assert committed == {"storage": "notes", "committed": 3, "unreadable": [], "maybe_deleted": []}
    assert run("sync", *pair, "--no-scan", "--json").json["pushed"] == 3


def test_commit_writes_the_changes_of_a_file(run: Run, pair: Pair) -> None:
    Path("changes").write_text('{"op":"put","key":"new","value":"é"}\n{"op":"delete","key":"b"}\n', encoding="utf-8")
    assert "2 changes logged" in run("commit", pair[0], "--changes", "changes").out
    assert Path("notes/new").read_bytes() == "é".encode()
    assert not Path("notes/b").exists()


def test_log(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    statement("DELETE FROM kv WHERE key = 'a'")
    run("sync", *pair)
    ended = run("log", pair[0])
    assert ended.out.count("\n") == 3
    assert ended.out.splitlines()[-1].endswith("delete  'a' (time not exact)")
    answer = run("log", pair[0], "user/1", "--json").json
    (change,) = answer["changes"]
    assert change["op"] == "put"
    assert change["size"] == 3
    assert len(bytes.fromhex(change["digest"])) == 32
    assert len(bytes.fromhex(change["origin"])) == 8
    assert change["time"].endswith("Z")
    assert int(change["stamp"]) > 1 << 53
    (delete,) = run("log", pair[0], "a", "--json").json["changes"]
    assert delete["digest"] is None


def test_log_of_an_unknown_key(run: Run, pair: Pair) -> None:
    assert run("log", pair[0], "nothing") == (DONE, "", "nothing is logged for 'nothing' in notes\n")
    assert run("log", pair[0], "nothing", "--json").json["changes"] == []


def test_status(run: Run, pair: Pair) -> None:
    assert "kvsync has never written here" in run("status", pair[0]).out
    assert run("status", pair[0], "--json").json["replica"] is None
    run("sync", *pair)
    assert "lease      free" in run("status", pair[0]).out
    answer = run("status", pair[0], "--json").json
    assert answer.keys() == {
        "storage",
        "replica",
        "generation",
        "vector",
        "changes",
        "segments",
        "index_bytes",
        "missing",
        "peers",
        "names",
        "held_back_by",
        "lease",
        "guarantee",
        "lag",
        "tracked",
        "journal",
    }
    assert answer["changes"] == 3
    assert answer["lag"] is None
    assert answer["vector"].keys() == {answer["replica"]}
    assert answer["vector"][answer["replica"]].keys() == {"time", "stamp"}


def test_status_with_a_peer_says_what_each_lacks(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    assert "lag        none: by their logs, neither lacks a change of the other" in run("status", *pair).out
    Path(pair[0], "new").write_bytes(b"1")
    run("commit", pair[0], "--scan")
    assert "lag        the peer lacks 1 change, this storage lacks 0; the oldest is " in run("status", *pair).out
    answer = run("status", *pair, "--json").json["lag"]
    assert (answer["to_peer"], answer["to_storage"]) == (1, 0)
    assert 0 < answer["seconds"] < 60


def test_track_and_untrack(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a").write_bytes(b"1")
    table = f"sqlite:///{tmp_path}/app.db"
    run("sync", str(tmp_path / "notes"), table)
    assert "tracking   no" in run("status", table).out
    assert run("track", table, "--json").json["changed"] is True
    assert "the next scan looks at everything" in run("status", table).out
    run("sync", str(tmp_path / "notes"), table)
    assert "yes; 0 keys changed since the last scan" in run("status", table).out
    assert run("status", table, "--json").json["journal"] == {"changed": 0, "fault": None}
    assert "it is tracked" in run("doctor", table).out
    run("sync", str(tmp_path / "notes"), table, "--full")
    assert run("untrack", table).out.endswith("not tracked any more\n")
    assert run("track", str(tmp_path / "notes")).code == 2


def test_status_names_the_holder(run: Run, pair: Pair) -> None:
    storage, _ = open_storage(pair[0])
    with lock((storage,), Options(wait_seconds=0), Environment()):
        assert "lease      held by " in run("status", pair[0]).out
        lease = run("status", pair[0], "--json").json["lease"]
    assert lease.keys() == {"state", "owner", "acquired", "expires", "expired", "process"}
    assert (lease["state"], lease["expired"], lease["process"]) == ("held", False, "running")


def test_verify(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    assert run("verify", *pair).code == DONE
    statement("UPDATE kv SET value = x'00' WHERE key = 'a'")
    statement("DELETE FROM kv WHERE key = 'b'")
    Path("notes/c").write_bytes(b"")
    differing = run("verify", *pair)
    assert differing.code == FAILED
    assert "NOT EQUAL" in differing.out
    answer = run("verify", *pair, "--json")
    assert answer.code == FAILED
    assert answer.json == {
        "source": pair[0],
        "target": pair[1],
        "equal": False,
        "same": 1,
        "only_source": ["b", "c"],
        "only_target": [],
        "different": ["a"],
        "unreadable": [],
        "expired": [],
        "unlogged": {pair[0]: ["c"], pair[1]: ["a", "b"]},
        "gone": {pair[0]: [], pair[1]: ["b"]},
        "intact": True,
        "findings": [],
        "mended": [],
        "notes": [],
        "left_out": 0,
    }


def test_verify_lists_keys_that_cannot_be_read(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    run("sync", *pair)
    monkeypatch.setattr(
        "kvsync.checks.verify", lambda *_, **__: Verification(same=2, unreadable=[UnreadableKey("a", "source", "odd")])
    )
    ended = run("verify", *pair)
    assert ended.code == FAILED
    assert "NOT EQUAL, but for 2 keys with the same value" in ended.out
    assert "unreadable 'a' in the source: odd\n" in ended.out
    assert run("verify", *pair, "--json").json["unreadable"] == [{"key": "a", "side": "source", "reason": "odd"}]


def test_compact(run: Run, pair: Pair) -> None:
    for number in range(3):
        Path("notes/a").write_text(str(number), encoding="utf-8")
        run("commit", pair[0])
    assert run("compact", pair[0], "--json").json.keys() == {"storage", "merged", "removed"}
    assert "merged" in run("compact", pair[0]).out


def test_unlock(run: Run, pair: Pair) -> None:
    nobody = {"storage": "notes", "unlocked": False, "holder": None, "process": None}
    assert run("unlock", pair[0], "--json").json == nobody
    hold(pair[0], UNKNOWN)
    answer = run("unlock", pair[0], "--yes", "--json").json
    assert (answer["unlocked"], answer["process"]) == (True, "elsewhere")
    assert answer["holder"].startswith("held by ")
    assert "lease      free" in run("status", pair[0]).out
    assert run("sync", *pair).code == DONE


def test_unlock_leaves_a_process_at_work_its_lease(run: Run, pair: Pair) -> None:
    """It asked whether that holder was dead, and the answer yes made a healthy run fail."""
    hold(pair[0], this_process())
    refused = run("unlock", pair[0], "--yes", "--json")
    assert refused.code == LOCKED
    assert (refused.json["unlocked"], refused.json["process"]) == (False, "running")
    assert "is running on this machine" in refused.err
    assert "--force" in refused.err
    assert "is running on this machine" in run("status", pair[0]).out
    assert run("unlock", pair[0], "--force", "--json").json["unlocked"] is True
    assert run("sync", *pair).code == DONE


def test_unlock_needs_no_confirmation_where_the_holder_has_ended(run: Run, pair: Pair) -> None:
    here = this_process()
    hold(pair[0], here._replace(started=here.started + 1))  # its number is ours now
    assert "that process has ended" in run("status", pair[0]).out
    ended = run("unlock", pair[0])
    assert ended.code == DONE
    assert "that process has ended" in ended.out


def hold(name: str, process: Process) -> None:
    """Leave the lease of a storage held by a process."""
    storage, _ = open_storage(name)
    now_ms = Environment().now_ms()
    record = LeaseRecord(LeaseState.HELD, bytes(16), "host pid 9", 0, now_ms, now_ms + 60_000, process)
    storage.store("lease", record.encode(), ANY)


def test_demo_on_a_small_folder(run: Run, tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    origin = tmp_path / "origin"
    for number in range(100):
        (origin / f"d{number % 7}").mkdir(parents=True, exist_ok=True)
        (origin / f"d{number % 7}" / f"{number}.txt").write_bytes(b"x" * number)
    (origin / "link").symlink_to("nowhere")
    before = snapshot(origin)
    ended = run("demo", "--folder", origin, "--sqlite", tmp_path / "demo.db")
    assert ended.code == DONE, ended.out + ended.err
    assert "copied 100 files" in ended.out
    assert "1 skipped" in ended.out
    assert "All 9 checks passed." in ended.out
    assert snapshot(origin) == before
    assert list((tmp_path / "temporary").iterdir()) == []
    assert len(rows(str(tmp_path / "demo.db"))) == 91
    answer = run("demo", "--folder", origin, "--json", "--keep").json
    assert answer["ok"] is True
    assert [step["name"] for step in answer["steps"]] == ["first sync", "second sync", "third sync"]
    assert all(check["ok"] for check in answer["checks"])
    assert Path(answer["kept"], "copy.db").exists()


def test_a_plan_with_an_exact_copy_says_what_finds_out(run: Run, pair: Pair) -> None:
    """It named an option that `plan` does not have, and advised to name two different storages."""
    run("sync", *pair)
    shutil.copytree("notes", "copy")
    for command in (["plan", "notes", "copy"], ["sync", "notes", "copy", "--dry-run"]):
        ended = run(*command)
        assert (ended.code, "only a sync finds out" in ended.err) == (USAGE, True)
        assert "next:" not in ended.err
    assert run("sync", "notes", "copy").code == DONE
    assert run("plan", "notes", "copy").code == DONE


def test_demo_fails_when_a_check_fails(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsync.cli.demo.rows_in", lambda _: {})
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"")
    ended = run("demo", "--folder", tmp_path)
    assert ended.code == FAILED
    assert "2 of 9 checks FAILED." in ended.out
    assert "warning: this check of the demo failed: " in run("demo", "--folder", tmp_path, "--quiet").err
    assert run("demo", "--folder", tmp_path, "--json").json["ok"] is False


def test_help_and_version(spawn: Run) -> None:
    ended = spawn("--help")
    assert ended.code == DONE
    for name in (
        "sync",
        "plan",
        "verify",
        "status",
        "log",
        "lost",
        "restore",
        "peers",
        "forget",
        "accept",
        "commit",
        "compact",
        "unlock",
        "demo",
    ):
        assert f"│ {name} " in ended.out
    assert "Exit codes" in ended.out
    version = spawn("--version")
    assert version.code == DONE
    assert version.out.startswith("kvsync")


@pytest.mark.parametrize("command", [name for name in app if not name.startswith("-")])
def test_the_help_of_each_command(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert ended.code == DONE
    usage = ended.out.splitlines()[0]
    assert usage.startswith(f"Usage: kvsync {command} [OPTIONS]")
    assert "ARGS" not in usage
    assert ("[KEY]" in usage) == (command in {"log", "lost"})
    assert "--json" in ended.out


def test_a_separate_process_reads_changes_from_standard_input(spawn: Run, pair: Pair) -> None:
    ended = spawn("sync", *pair, "--changes", "-", "--json", stdin='{"op":"put","key":"x","value":"1"}\n')
    assert json.loads(ended.out)["pushed"] == 1
    assert (ended.code, ended.err) == (DONE, "")


def test_storages_are_listed_with_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    point = EntryPoint("theirs", "their_package:open_url", "kvsync.storages")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: [point])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "redis" else object())
    ended = run("storages").out
    assert len({line.index(state) for line in ended.splitlines() for state in ("  ready",) if state in line}) == 1
    assert "pip install 'kvsync[redis]'" in ended
    assert "from their_package:open_url" in ended
    found = {entry["scheme"]: entry for entry in run("storages", "--json").json["storages"]}
    assert found["theirs"]["third_party"]
    assert not found["redis"]["installed"]
    assert found["sqlite"]["installed"]
    assert found["s3"]["extra"] == "s3"
