"""Keys that both sides changed: told, decided alike everywhere, and the value that lost is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from telling import HOUR, command, conflicts, kept, moved, told

import kvsync
from kvsync import Delete, Put

if TYPE_CHECKING:
    from places import Place
    from telling import Story

    from kvsync import Conflict


def test_an_edit_made_offline_is_not_forgotten_without_a_word(story: Story) -> None:
    """laurent22/joplin#13121: a note was edited on a phone in airplane mode and on a desktop. Back online, the
    phone's edit was gone without a word. Here the conflict is told, and the edit that lost is in the phone, and comes
    back."""
    phone, desktop = story.place("phone", {"note": b"1"}, "sqlite"), story.place("desktop", kind="folder")
    story.sync(phone, desktop)
    kvsync.commit(phone.target, [Put("note", b"on the phone")], environment=story.clock.environment)
    story.clock.sleep(HOUR)
    desktop.put("note", b"on the desktop")
    result = story.sync(phone, desktop)
    assert conflicts(result) == [("note", "target")]
    assert phone.values() == desktop.values() == {"note": b"on the desktop"}
    assert kept(phone) == [("note", b"on the phone")]
    assert kept(desktop) == []
    kvsync.restore(phone.target, "note", environment=story.clock.environment)
    assert moved(story.sync(phone, desktop)) == (1, 0)
    assert phone.values() == desktop.values() == {"note": b"on the phone"}


def lines(_: Conflict, source: bytes | None, target: bytes | None) -> bytes:
    """Merge two notes, each a set of lines."""
    return b"".join(sorted({*(source or b"").splitlines(keepends=True), *(target or b"").splitlines(keepends=True)}))


def test_a_line_appended_to_a_stale_note_does_not_replace_the_newer_one(story: Story) -> None:
    """vrtmrz/obsidian-livesync#122: a phone appended a link to a note before it had fetched what a laptop had written
    there. The laptop's words were overwritten. Here both have changed the note, so the policy gets both to merge."""
    phone, laptop = story.place("phone", {"xyz": b"testing\n"}), story.place("laptop", kind="folder")
    story.sync(phone, laptop)
    laptop.put("xyz", b"testing\nsome change\n")
    with kvsync.open(phone.target, clock=story.clock) as store:
        store["xyz"] += b"https://example.org\n"
    result = story.sync(phone, laptop, conflict=lines)
    assert phone.values() == laptop.values() == {"xyz": b"https://example.org\nsome change\ntesting\n"}
    assert conflicts(result) == [("xyz", "value")]
    assert kept(phone, laptop) == [("xyz", b"testing\nhttps://example.org\n"), ("xyz", b"testing\nsome change\n")]


def test_the_wrong_choice_can_be_taken_back(story: Story) -> None:
    """vrtmrz/obsidian-livesync#728: the wrong side was chosen in a merge, and no copy of the other one was left
    anywhere. Here it is kept, and so is what it replaces when it is put back, by the command as well."""
    mine, theirs = story.place("mine", {"note": b"0"}, "folder"), story.place("theirs", kind="sqlite")
    story.sync(mine, theirs)
    mine.put("note", b"much work")
    theirs.put("note", b"typo")
    assert conflicts(story.sync(mine, theirs, conflict="target")) == [("note", "target")]
    assert mine.values() == {"note": b"typo"}
    assert command("restore", mine.target, "note") == 0
    assert mine.values() == {"note": b"much work"}
    assert kept(mine) == [("note", b"much work"), ("note", b"typo")]


def test_a_copy_of_a_copy_is_never_made(story: Story) -> None:
    """syncthing/syncthing#2605: a conflict on a conflict's copy made a copy of the copy, and so on. Here a copy that
    both sides change is a conflict like any other, and makes no further copy: the value that loses is kept in the
    index."""
    one, other = story.place("one", {"foo.txt": b"0"}, "folder"), story.place("other", kind="folder")
    story.sync(one, other)
    one.put("foo.txt", b"one")
    other.put("foo.txt", b"other")
    story.sync(one, other, conflict="keep-both")
    (copy,) = one.values().keys() - {"foo.txt"}
    assert copy.startswith("foo~")
    one.put(copy, b"one, of the copy")
    other.put(copy, b"other, of the copy")
    result = story.sync(one, other, conflict="keep-both")
    assert conflicts(result) == [(copy, "target")]
    assert one.values() == other.values() == {"foo.txt": b"other", copy: b"other, of the copy"}
    assert (copy, b"one, of the copy") in kept(one, other)
    assert told(story.sync(one, other, conflict="keep-both")) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_two_devices_that_meet_one_conflict_make_one_copy(story: Story, order: tuple[int, ...]) -> None:
    """syncthing/syncthing#2619: two devices resolved the same conflict at different times, and left two copies of the
    same bytes. Here the copy's name comes from the change that lost, so all three make the same one."""
    places = [story.place(name, {"foo.txt": b"0"}) for name in "abc"]
    story.round(*places)
    for number, place in enumerate(places):
        story.clock.sleep(HOUR)
        place.put("foo.txt", b"same" if number else b"other")
        kvsync.commit(place.target, scan=True, environment=story.clock.environment)
    pairs = [((0, 1), (1, 2), (2, 0))[number] for number in order]
    for one, other in pairs * 2:
        story.sync(places[one], places[other], conflict="keep-both")
    values = [place.values() for place in places]
    assert values[0] == values[1] == values[2]
    assert sorted(values[0].values()) == [b"other", b"same"]


def test_a_conflict_that_two_pairs_resolve_apart_is_resolved(story: Story) -> None:
    """apache/pouchdb#4145: two clients resolved one conflict, each in its own way, and had made the next one by that,
    round after round. Here a decision is a change that is never decided again: all agree, and it stays so."""
    a, b, c = story.place("a", {"doc": b"0"}), story.place("b"), story.place("c", kind="sqlite")
    d = story.place("d", kind="folder")
    story.round(a, b, c, d)
    a.put("doc", b"from a")
    story.sync(a, c, scan=True)
    b.put("doc", b"from b")
    story.sync(b, d, scan=True)
    first = [story.sync(a, b, conflict="source"), story.sync(c, d, conflict="target")]
    rest = [story.sync(one, other) for one, other in ((a, c), (b, d), (a, d), (b, c), (a, b), (c, d))]
    assert conflicts(*first) == [("doc", "source"), ("doc", "target")]
    assert conflicts(*rest) == []
    assert a.values() == b.values() == c.values() == d.values() == {"doc": b"from a"}
    assert set(kept(a, b, c, d)) == {("doc", b"from a"), ("doc", b"from b")}
    assert [told(story.sync(one, other)) for one, other in ((a, c), (b, d))] == [(0, 0, 0, 0, 0)] * 2


@pytest.mark.parametrize("policy", ["latest", "keep-both", "source", "target"])
def test_a_file_deleted_here_and_edited_there_ends_no_run(
    story: Story, policy: Literal["latest", "keep-both", "source", "target"]
) -> None:
    """bcpierce00/unison#6: a file was deleted in one place and edited in the other. Asked to keep a copy on conflict,
    the tool ended with an assertion. Here the edit wins, unless the policy says whose side counts; then it is
    kept."""
    local, remote = story.place("local", {"test.txt": b"1", "x": b"1"}, "folder"), story.place("remote", kind="sqlite")
    story.sync(local, remote)
    remote.delete("test.txt")
    local.put("test.txt", b"some content")
    result = story.sync(local, remote, conflict=policy)
    if policy == "target":
        assert local.values() == remote.values() == {"x": b"1"}
        assert kept(local) == [("test.txt", b"some content")]
    else:
        assert local.values() == remote.values() == {"test.txt": b"some content", "x": b"1"}
    assert conflicts(result) == [("test.txt", "target" if policy == "target" else "source")]


def test_a_tablet_that_was_off_for_days_replaces_nothing(story: Story) -> None:
    """logseq/logseq#10019: a tablet that had not been synced for some days put its old pages in the place of
    everything that had been written since. Here it has changed nothing, so it gives nothing, and gets all."""
    laptop = story.place("laptop", {f"page {number}": b"old" for number in range(5)}, "folder")
    cloud, tablet = story.place("cloud", kind="sqlite"), story.place("tablet", kind="folder")
    story.round(cloud, laptop, tablet)
    for day in range(5):
        laptop.put(f"page {day}", b"day %d" % day)
        story.sync(cloud, laptop)
        story.clock.sleep(24 * HOUR)
    result = story.sync(tablet, cloud)
    assert told(result) == (0, 5, 0, 0, 0)
    assert tablet.values() == laptop.values() == {f"page {day}": b"day %d" % day for day in range(5)}


def test_two_browsers_end_with_the_same_task(story: Story) -> None:
    """apache/pouchdb#395: two browsers changed one task, pushed and fetched in turn, and showed different tasks in
    the end. Here the order in which they meet the server does not matter."""
    server, first, second = story.place("server", kind="sqlite"), story.place("first"), story.place("second")
    first.put("task", b"task1")
    story.round(server, first, second)
    first.put("task", b"task2")
    second.put("task", b"task3")
    results = [story.sync(second, server), story.sync(first, server), story.sync(second, server)]
    assert len(conflicts(*results)) == 1
    assert server.values() == first.values() == second.values()
    (won,) = server.values().values()
    assert kept(server, first, second) == [("task", {b"task2": b"task3", b"task3": b"task2"}[won])]


def test_a_deleted_conflict_stays_resolved(story: Story) -> None:
    """apache/pouchdb#2955: the delete of a losing revision was not replicated, so a resolved conflict was an open one
    for everybody else. Here a third learns of the decision with the first run, and sees no conflict at all."""
    a, b, c = story.place("a", {"doc": b"0"}), story.place("b", kind="folder"), story.place("c", kind="sqlite")
    story.round(a, b, c)
    kvsync.commit(a.target, [Delete("doc")], environment=story.clock.environment)
    b.put("doc", b"edited")
    assert conflicts(story.sync(a, b, conflict="source")) == [("doc", "source")]
    assert conflicts(story.sync(c, b), story.sync(a, c)) == []
    assert a.values() == b.values() == c.values() == {}
    assert kept(a, b, c) == [("doc", b"edited")]


def test_a_page_typed_on_two_devices_within_a_minute_is_told_once(story: Story) -> None:
    """logseq/logseq#8940: a day's page was typed on a phone and on a laptop. One went to a backup folder, and nobody
    was warned. Here the command says so, ends with 0 as all is equal, and `kvsync lost` has the other one."""
    phone, laptop = story.place("phone", {"day": b"-\n"}, "folder"), story.place("laptop", kind="folder")
    story.sync(phone, laptop)
    phone.put("day", b"- on the train\n")
    laptop.put("day", b"- at home\n")
    results = [story.sync(phone, laptop), story.sync(phone, laptop)]
    assert [len(result.conflicts) for result in results] == [1, 0]
    (conflict,) = results[0].conflicts
    places: dict[str | None, tuple[Place, bytes]] = {
        "source": (laptop, b"- at home\n"),
        "target": (phone, b"- on the train\n"),
    }
    loser, value = places[conflict.winner]
    assert kept(loser) == [("day", value)]
    assert command("lost", loser.target) == 0
