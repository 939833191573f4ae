"""Policies as pure functions: a table of two changes and the verdict."""

from __future__ import annotations

from typing import Any

import pytest

import kvsync
from kvsync.native import DECISION, INEXACT, TOMBSTONE
from kvsync.policy import POLICIES, Verdict, conflict_copy, judge, newer, refuse, resolve_policy
from kvsync.types import Change, Conflict


def change(stamp: int, origin: int = 1, flags: int = 0, digest: bytes = b"d", key: str = "k") -> Change:
    return Change(key, origin, stamp, flags, 0 if flags & TOMBSTONE else 1, digest.ljust(32, b"\0"))


OLD, NEW = change(10), change(20, origin=2)
OLD_DELETE, NEW_DELETE = change(10, flags=TOMBSTONE, digest=b""), change(20, origin=2, flags=TOMBSTONE, digest=b"")
FOUND_DELETE = change(20, origin=2, flags=TOMBSTONE | INEXACT, digest=b"")
FOUND = change(20, origin=2, flags=INEXACT)
COPY = "k~00000000000000ff-c0ffee00"

TABLE = [
    ("latest", OLD, NEW, Verdict("target")),
    ("latest", NEW, OLD, Verdict("source")),
    ("latest", NEW_DELETE, OLD, Verdict("source")),
    ("latest", NEW, OLD_DELETE, Verdict("source")),
    ("latest", FOUND_DELETE, OLD, Verdict("target")),
    ("latest", OLD, FOUND_DELETE, Verdict("source")),
    ("latest", OLD._replace(flags=INEXACT), FOUND_DELETE, Verdict("source")),
    ("latest", OLD, FOUND, Verdict("target")),
    ("latest", FOUND, OLD_DELETE, Verdict("source")),
    ("latest", NEW_DELETE, OLD._replace(flags=INEXACT), Verdict("source")),
    ("source", OLD, NEW, Verdict("source")),
    ("source", NEW, OLD, Verdict("source")),
    ("source", OLD_DELETE, NEW, Verdict("source")),
    ("target", NEW, OLD, Verdict("target")),
    ("target", NEW, OLD_DELETE, Verdict("target")),
    ("keep-both", OLD, NEW, Verdict("target", copy="source")),
    ("keep-both", NEW, OLD, Verdict("source", copy="target")),
    ("keep-both", NEW_DELETE, OLD, Verdict("source", copy="target")),
    ("keep-both", NEW, OLD_DELETE, Verdict("source")),
    ("keep-both", OLD, FOUND_DELETE, Verdict("source")),
    ("keep-both", FOUND_DELETE, OLD, Verdict("target")),
    ("source", FOUND_DELETE, OLD, Verdict("source")),
    ("target", OLD, FOUND_DELETE, Verdict("target")),
    ("keep-both", change(10, key=COPY + ".md"), change(20, 2, key=COPY + ".md"), Verdict("target")),
    ("keep-both", change(10, key=COPY), change(20, 2, key=COPY), Verdict("target")),
    ("fail", OLD, NEW, Verdict("target")),
]


@pytest.mark.parametrize(("policy", "source", "target", "verdict"), TABLE)
def test_verdicts(policy: Any, source: Change, target: Change, verdict: Verdict) -> None:
    assert judge(policy, Conflict(source.key, source, target), lambda: (None, None)) == verdict


@pytest.mark.parametrize("policy", [*POLICIES, lambda *_: b"own"])
@pytest.mark.parametrize(
    ("source", "target"),
    [(OLD, NEW), (NEW, OLD), (OLD_DELETE, NEW), (OLD, NEW_DELETE), (OLD, FOUND_DELETE), (FOUND_DELETE, OLD)],
)
@pytest.mark.parametrize("decided", ["source", "target", "both"])
def test_a_decision_is_never_decided_again(policy: Any, source: Change, target: Change, decided: str) -> None:
    """It competes by plain order, whatever the policy: sides that differ in policy converge."""
    if decided in ("source", "both"):
        source = source._replace(flags=source.flags | DECISION)
    if decided in ("target", "both"):
        target = target._replace(flags=target.flags | DECISION)
    verdict = judge(policy, Conflict("k", source, target), lambda: (None, None))
    assert verdict == Verdict(newer(source, target))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (change(1), change(2)),
        (change(1, origin=1), change(1, origin=2)),
        (change(1), change(1, flags=TOMBSTONE)),
        (change(1, digest=b"a"), change(1, digest=b"b")),
        (change(1, origin=2, digest=b"a"), change(1, origin=1, digest=b"b")),
        (change(1, origin=2), change(1, origin=1, flags=TOMBSTONE)),
    ],
)
def test_the_order_has_no_ties(one: Change, other: Change) -> None:
    assert newer(one, other) == "target"
    assert newer(other, one) == "source"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"own", Verdict(None, b"own")),
        (b"", Verdict(None, b"")),
        ("delete", Verdict(None, None)),
        ("source", Verdict("source")),
        ("target", Verdict("target")),
    ],
)
def test_what_a_callable_may_answer(answer: Any, verdict: Verdict) -> None:
    seen: list[Any] = []

    def policy(*arguments: Any) -> Any:
        seen.append(arguments)
        return answer

    conflict = Conflict("k", OLD, NEW)
    assert judge(policy, conflict, lambda: (b"s", None)) == verdict
    assert seen == [(conflict, b"s", None)]


@pytest.mark.parametrize("answer", [None, "latest", "Source", 0, True, bytearray(b"x"), (b"x",), Verdict("source")])
def test_what_a_callable_may_not_answer(answer: Any) -> None:
    with pytest.raises(kvsync.UsageError) as raised:
        judge(lambda *_: answer, Conflict("k", OLD, NEW), lambda: (None, None))
    assert raised.value.key == "k"


def test_values_are_read_for_callables_only() -> None:
    def read() -> Any:
        raise AssertionError

    for name in POLICIES:
        judge(name, Conflict("k", OLD, NEW), read)  # type: ignore[arg-type]


def test_known_policies() -> None:
    for name in ("latest", "source", "target", "keep-both", "fail"):
        assert resolve_policy(name) == name
    for wrong in ("newest", "", None, 3):
        with pytest.raises(kvsync.UsageError, match="keep-both"):
            resolve_policy(wrong)


def test_fail_names_what_is_open() -> None:
    decided = NEW._replace(flags=DECISION)
    refuse([])
    refuse([Conflict("k", OLD, decided)])
    conflicts = [Conflict(f"k{i}", OLD, NEW) for i in range(9)]
    with pytest.raises(kvsync.ConflictError) as raised:
        refuse([*conflicts, Conflict("decided", OLD, decided)])
    assert raised.value.conflicts == conflicts
    assert "9 conflicts" in str(raised.value)
    assert "'k0'" in str(raised.value)


def test_a_copys_name_depends_on_the_loser_alone() -> None:
    assert conflict_copy(change(255, digest=bytes.fromhex("c0ffee00"))) == COPY
    assert conflict_copy(change(255, origin=9, digest=bytes.fromhex("c0ffee00"))) == COPY
    assert conflict_copy(change(254)) != conflict_copy(change(255))
    assert conflict_copy(change(255, digest=b"x")) != conflict_copy(change(255, digest=b"y"))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("note.md", "note{}.md"),
        ("dir.d/note", "dir.d/note{}"),
        ("dir.d/note.md", "dir.d/note{}.md"),
        ("note", "note{}"),
        (".profile", ".profile{}"),
        ("home/.profile", "home/.profile{}"),
        (".config.json", ".config{}.json"),
        ("archive.tar.gz", "archive.tar{}.gz"),
        ("Dr. Strange", "Dr. Strange{}"),
        ("ends with a dot.", "ends with a dot.{}"),
        ("note.long-suffix", "note.long-suffix{}"),
        ("note.abcdefghijklmnopq", "note.abcdefghijklmnopq{}"),
        ("two\nlines.md", "two\nlines{}.md"),
        ("note.md\n", "note.md\n{}"),
        ("", "{}"),
    ],
)
def test_a_copy_keeps_the_extension_of_its_file(key: str, name: str) -> None:
    loser = change(255, digest=bytes.fromhex("c0ffee00"), key=key)
    copy = conflict_copy(loser)
    assert copy == name.format("~00000000000000ff-c0ffee00")
    copied = loser._replace(key=copy)
    assert POLICIES["keep-both"](copied, copied._replace(stamp=256)) == Verdict("target")
