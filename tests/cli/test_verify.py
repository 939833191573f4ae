"""`kvsync verify` of one storage and of two, with `--repair` and `--refill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import kvsync
from kvsync.audit.refill import refill
from kvsync.cli.exitcodes import BUDGET, DONE, FAILED, USAGE
from kvsync.environment import Environment
from kvsync.options import Options
from kvsync.storages import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ended

    Run = Callable[..., Ended]
    Pair = tuple[str, str]

MANIFEST = Path("notes/.kvsync/manifest")


def damage() -> None:
    data = MANIFEST.read_bytes()
    MANIFEST.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])


def test_one_storage(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    Path("notes/new").write_bytes(b"")
    Path("notes/a").unlink()
    ended = run("verify", "notes")
    assert ended.code == DONE
    assert ended.out == (
        "notes\n  values     3 keys\n  notes: 2 keys changed since the last run, 1 of them gone\n  index      intact\n"
    )
    answer = run("verify", "notes", "--json").json
    assert (answer["target"], answer["same"], answer["unlogged"]) == (None, 3, {"notes": ["a", "new"]})
    assert (answer["gone"], answer["intact"], answer["equal"]) == ({"notes": ["a"]}, True, True)


def test_damage_is_told_with_the_way_out(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    damage()
    ended = run("verify", *pair)
    assert ended.code == FAILED
    assert "  equal: 3 keys with the same value\n" in ended.out
    assert "  DAMAGED    notes: manifest is damaged at byte 16: the checksum does not match: " in ended.out
    assert "run the same command with --repair\n" in ended.out
    quiet = run("verify", "notes", "--quiet")
    assert quiet.out == ""
    assert "DAMAGED    notes: manifest" in quiet.err
    (finding,) = run("verify", *pair, "--json").json["findings"]
    assert finding.keys() == {"storage", "name", "wrong", "means", "mend"}
    assert (finding["storage"], finding["name"], finding["mend"]) == ("notes", "manifest", "rebuild")


def test_a_repair_says_what_it_did(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    damage()
    ended = run("verify", "notes", "--repair", "--yes")
    assert ended.code == DONE
    assert "  mended     notes: manifest is damaged" in ended.out
    assert "  repair     notes: made a new log with 3 of the changes" in ended.out
    assert run("sync", *pair).code == DONE
    assert run("verify", *pair).code == DONE
    damage()
    answer = run("verify", "notes", "--repair", "--yes", "--json").json
    assert [finding["name"] for finding in answer["mended"]] == ["manifest"]
    assert (answer["intact"], answer["findings"]) == (True, [])


def test_nobody_can_be_asked_without_a_terminal(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    damage()
    before = MANIFEST.read_bytes()
    ended = run("verify", "notes", "--repair")
    assert ended.code == USAGE
    assert "pass --yes to repair that" in ended.err
    assert MANIFEST.read_bytes() == before


def test_nothing_to_repair_asks_nothing(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    before = MANIFEST.read_bytes()
    assert run("verify", *pair, "--repair").code == DONE
    assert run("verify", *pair, "--refill").code == DONE
    assert MANIFEST.read_bytes() == before


def test_on_a_terminal(run: Run, pair: Pair, on_terminal: Callable[..., tuple[int, str]]) -> None:
    run("sync", *pair)
    damage()
    code, shown = on_terminal("verify", "notes", "--repair", answer="n\n")
    assert (code, "Repair that? [y/N]" in shown, "nothing was repaired" in shown) == (FAILED, True, True)
    code, shown = on_terminal("verify", "notes", "--repair", answer="y\n")
    assert (code, "mended" in shown) == (DONE, True)


def test_lost_values_are_brought_back(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    for name in ("a", "b", "user/1"):
        Path("notes", name).unlink()
    stopped = run("sync", *pair)
    assert (stopped.code, "`kvsync verify notes OTHER --refill`" in stopped.err) == (BUDGET, True)
    asked = run("verify", *pair, "--refill")
    assert asked.code == USAGE
    assert "3 keys of notes taken for lost (3 gone, 0 not what the log says)" in asked.err
    ended = run("verify", *pair, "--refill", "--yes")
    assert ended.code == DONE
    assert "  repair     notes: put back 3 values from sqlite:///app.db: 'a', 'b', 'user/1'\n" in ended.out
    assert Path("notes/user/1").read_bytes() == b"Ada"


def test_a_refill_over_the_budget_says_how_to_go_on(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    for name in ("a", "b"):
        Path("notes", name).write_bytes(b"rotten")
    ended = run("verify", *pair, "--refill", "--yes", "--max-delete", "1")
    assert (ended.code, "run again with --max-delete 2" in ended.err) == (BUDGET, True)
    assert Path("notes/a").read_bytes() == b"rotten"
    assert run("verify", *pair, "--refill", "--yes", "--max-delete", "2").code == DONE
    assert Path("notes/a").read_bytes() == b"1"
    assert run("lost", "notes", "a", "--json").json["lost"]


def test_a_refill_with_nothing_to_do_says_how_to_go_on(run: Run, pair: Pair) -> None:
    """One that was interrupted before its sync finds nothing lost any more; and the storages may be turned round."""
    run("sync", *pair)
    Path("notes/a").unlink()
    kvsync.commit(pair[1], [kvsync.Put("a", b"newer")])
    # The target knows the lost value no more, so the first storage lists it as missing, and the sync brings the newer.
    notes, other = (open_storage(name)[0] for name in pair)
    refill(notes, other, Options(), Environment())
    other.close()
    told = run("verify", *pair, "--refill", "--yes")
    assert told.code == FAILED
    assert "no value of notes is lost; `kvsync sync notes sqlite:///app.db` makes the two equal" in told.err
    assert run("sync", *pair).code == DONE
    assert Path("notes/a").read_bytes() == b"newer"
    Path("notes/a").unlink()
    told = run("verify", *reversed(pair), "--refill", "--yes")
    assert "1 key of notes gone, to bring it back run `kvsync verify notes sqlite:///app.db --refill`" in told.err
    assert run("verify", *pair, "--refill", "--yes").code == DONE
    assert Path("notes/a").read_bytes() == b"newer"


def test_a_refill_needs_a_target(run: Run, pair: Pair) -> None:
    run("sync", *pair)
    ended = run("verify", "notes", "--refill")
    assert (ended.code, "--refill needs a TARGET" in ended.err) == (USAGE, True)
