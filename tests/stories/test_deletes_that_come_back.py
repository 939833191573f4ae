"""Keys that somebody deleted, and that other tools brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from places import DictPlace, FolderPlace, Hooked
from telling import HOUR, conflicts, kept, missing, moved, told

import kvsync
from kvsync import Delete, Put

if TYPE_CHECKING:
    from telling import Story

SHOTS = {f"photo {number}": b"jpeg" for number in range(8)}


def test_a_key_deleted_while_a_node_was_down_stays_deleted(story: Story) -> None:
    """Snapchat/KeyDB#83: three active replicas, one of them down. A key was deleted, and came back as soon as the
    third was up again. Here the third has not deleted it yet, and does so when it meets either of the others."""
    a, b, c = (story.place(name, {}, kind) for name, kind in (("a", "redis"), ("b", "sqlite"), ("c", "dict")))
    kvsync.sync(a.target, b.target, [Put("mycounter", b"1")], environment=story.clock.environment)
    story.round(a, b, c)
    a.delete("mycounter")
    story.sync(a, b, max_delete="100%")
    result = story.sync(c, b)
    assert told(result) == (0, 1, 0, 0, 0)
    for one, other in ((a, c), (a, b), (b, c)):
        assert told(story.sync(one, other)) == (0, 0, 0, 0, 0)
    assert a.values() == b.values() == c.values() == {}


def test_a_phone_that_was_off_does_not_bring_sorted_out_photos_back(story: Story) -> None:
    """syncthing/syncthing#1075: photos were sorted out on a laptop while a phone was off. When it came back it sent
    all of them to the others again. Here they go from the phone, too, also with a new date on each of its files."""
    pi = story.place("pi", SHOTS, "folder")
    laptop, phone = story.place("laptop", kind="folder"), story.place("phone", kind="folder")
    story.round(pi, laptop, phone)
    for number in range(3):
        laptop.delete(f"photo {number}")
    story.sync(pi, laptop)
    for name, photo in SHOTS.items():
        phone.put(name, photo)
    results = story.round(pi, phone, laptop)
    left = {name: photo for name, photo in SHOTS.items() if name >= "photo 3"}
    assert pi.values() == phone.values() == laptop.values() == left
    assert conflicts(*results) == []


def test_starting_over_on_one_side_does_not_bring_deletes_back(story: Story) -> None:
    """rclone/rclone#7042: a bidirectional sync that was told to start over with each run copied back every file that
    had been deleted since. Here who starts over without its index learns of the deletes from the other."""
    here, there = story.place("here", SHOTS, "folder"), story.place("there")
    story.sync(here, there)
    kvsync.commit(there.target, [Delete("photo 1"), Delete("photo 2")], environment=story.clock.environment)
    story.sync(here, there)
    here.drop_index()
    story.sync(here, there)
    left = {name: photo for name, photo in SHOTS.items() if name not in {"photo 1", "photo 2"}}
    assert here.values() == there.values() == left


def test_a_file_that_both_sides_had_from_the_start_can_be_deleted(story: Story) -> None:
    """rclone/rclone#9939: a file that was equal on both sides before the first run was never written down as synced.
    Deleted on one side, it looked new on the other, and was copied back. Here the first run adopts equal files."""
    one, other = story.place("one", SHOTS, "folder"), story.place("other", SHOTS, "sqlite")
    assert told(story.sync(one, other)) == (0, 0, 0, 0, 0)
    one.delete("photo 5")
    assert told(story.sync(one, other)) == (1, 0, 0, 0, 0)
    other.delete("photo 6")
    assert told(story.sync(one, other)) == (0, 1, 0, 0, 0)
    left = {name: photo for name, photo in SHOTS.items() if name not in {"photo 5", "photo 6"}}
    assert one.values() == other.values() == left


def test_an_old_copy_does_not_undelete_a_document(story: Story) -> None:
    """apache/pouchdb#2779: a document that had been deleted could be saved again with its old revision, and was back.
    Here an old version says that it is old, whoever passes it on, and however long it was away."""
    a, b, c = story.place("a", {"foo": b"1", "bar": b"1"}), story.place("b"), story.place("c", kind="sqlite")
    story.round(a, b, c)
    a.put("foo", b"2")
    story.sync(a, b)
    kvsync.commit(b.target, [Delete("foo")], environment=story.clock.environment)
    story.sync(a, b)
    kvsync.compact(a.target)
    kvsync.compact(b.target)
    story.clock.sleep(400 * 24 * HOUR)
    results = [story.sync(c, b), story.sync(a, c)]
    assert a.values() == b.values() == c.values() == {"bar": b"1"}
    assert [told(result) for result in results] == [(0, 1, 0, 0, 0), (0, 0, 0, 0, 0)]


def test_a_key_that_is_made_again_can_be_deleted_again(story: Story) -> None:
    """apache/pouchdb#2787: put, delete, put again, delete again, each replicated in turn: the last delete did not
    reach the server, for the second document was no child of the deleted one. Here each is a change like any
    other."""
    local, remote = story.place("local"), story.place("remote", kind="sqlite")
    for value in (b"1", None, b"2", None):
        change = Delete("id") if value is None else Put("id", value)
        result = kvsync.sync(local.target, remote.target, [change], environment=story.clock.environment)
        assert moved(result) == (1, 0)
        assert local.values() == remote.values() == ({} if value is None else {"id": value})


def test_a_key_that_was_deleted_and_made_again_before_the_run_arrives(story: Story) -> None:
    """Mimetis/Dotmim.Sync#175: a row was synced, deleted, and inserted again with the same key: what was in the
    second one was never synced. Here a scan compares what is there with what was, however it came about."""
    client, server = story.place("client", {"1": b"first", "2": b"stays"}, "sqlite"), story.place("server")
    story.sync(client, server)
    client.delete("1")
    client.put("1", b"second")
    assert told(story.sync(client, server)) == (1, 0, 0, 0, 0)
    assert client.values() == server.values() == {"1": b"second", "2": b"stays"}


def test_an_old_tombstone_does_not_delete_what_was_made_after_it(story: Story) -> None:
    """basho/riak_kv#1094: a key was deleted, its tombstone removed, and the key made anew. Then a node that had been
    away handed in the old tombstone, which counted as later: the new value was gone. Here a change that has seen the
    delete is later than it, whoever brings the delete."""
    a, b, away = story.place("a", {"k": b"1", "x": b"1"}), story.place("b"), story.place("away", kind="sqlite")
    story.round(a, b, away)
    a.delete("k")
    story.sync(a, away)
    story.sync(a, b)
    b.put("k", b"made anew")
    story.sync(a, b)
    results = [story.sync(away, b), story.sync(a, away), story.sync(a, b)]
    assert a.values() == b.values() == away.values() == {"k": b"made anew", "x": b"1"}
    assert conflicts(*results) == []


def test_a_file_that_is_moved_during_a_run_is_not_left_in_both_places(story: Story) -> None:
    """owncloud/client#5437: files that were moved while a sync was under way came back at their old places, beside
    the new ones. Here the old name is not written again, and the next run moves the rest."""
    laptop, server = story.place("laptop", {"in/scan.pdf": b"1", "in/other": b"1"}, "folder"), story.place("server")
    assert isinstance(laptop, FolderPlace)
    story.sync(laptop, server)
    server.put("in/scan.pdf", b"2")

    def move(method: str, *_: object) -> None:
        if method == "write" and (laptop.path / "in/scan.pdf").exists():
            (laptop.path / "done").mkdir()
            (laptop.path / "in/scan.pdf").rename(laptop.path / "done/scan.pdf")

    disturbed = Hooked(laptop.target, before=move)
    result = kvsync.sync(disturbed, server.target, scan=True, environment=story.clock.environment)
    disturbed.close()
    assert missing(result) == [("in/scan.pdf", "source")]
    assert laptop.values() == {"done/scan.pdf": b"1", "in/other": b"1"}
    story.sync(laptop, server)
    expected = {"done/scan.pdf": b"1", "in/other": b"1", "in/scan.pdf": b"2"}
    assert laptop.values() == server.values() == expected, "an edit that the move did not know of is kept"


class ReadOnly(dict[str, bytes]):
    """A mapping some of whose keys cannot be deleted."""

    locked: frozenset[str] = frozenset()

    def __delitem__(self, key: str) -> None:
        if key in self.locked:
            message = "read-only"
            raise PermissionError(message)
        super().__delitem__(key)


def test_a_file_that_cannot_be_deleted_there_does_not_come_back_here(story: Story) -> None:
    """syncthing/syncthing#236: a read-only file could not be deleted on the other machine, which took it for a new
    one and sent it back, again and again. Here the delete waits, is told each time, and happens when it can."""
    there = ReadOnly(SHOTS)
    here, other = story.place("here", SHOTS), DictPlace(there)
    story.sync(here, other)
    here.delete("photo 1")
    there.locked = frozenset(["photo 1"])
    for _ in range(2):
        result = story.sync(here, other)
        assert missing(result) == [("photo 1", "target")]
        assert "photo 1" not in here.values()
    there.locked = frozenset()
    assert missing(story.sync(here, other)) == []
    assert here.values() == other.values()
    assert "photo 1" not in other.values()


def test_a_deleted_note_that_nobody_edited_beats_the_copies_of_it(story: Story) -> None:
    """apache/pouchdb#8427: documents were deleted a week after they were done, and older versions of some came back
    from browsers. Here five replicas meet in any order, and none has anything to give back."""
    hub = story.place("hub", {"doc": b"1", "stays": b"1"}, "sqlite")
    browsers = [story.place(f"browser {number}") for number in range(4)]
    story.round(hub, *browsers)
    hub.put("doc", b"2")
    story.sync(hub, browsers[0])
    hub.delete("doc")
    story.sync(hub, browsers[1])
    for one, other in ((2, 0), (3, 2), (0, 1)):
        story.sync(browsers[one], browsers[other])
    results = story.round(hub, *reversed(browsers))
    assert [place.values() for place in (hub, *browsers)] == [{"stays": b"1"}] * 5
    assert conflicts(*results) == []
    assert kept(hub, *browsers) == []


def test_a_node_that_was_down_for_longer_than_any_grace_revives_nothing(story: Story) -> None:
    """scylladb/scylladb#4277: a node was down for longer than tombstones are kept. When it came back, the others had
    forgotten the deletes, and took its old rows for new ones. Here a delete is known until all who are known have it,
    and what the node wrote itself arrives."""
    a, b, down = story.place("a", {"row": b"1", "x": b"1"}), story.place("b"), story.place("down", kind="sqlite")
    story.round(a, b, down)
    kvsync.commit(a.target, [Delete("row")], environment=story.clock.environment)
    for month in range(12):
        story.clock.sleep(30 * 24 * HOUR)
        a.put("x", b"%d" % month)
        story.sync(a, b)
    down.put("its own", b"1")
    results = [story.sync(down, b), story.sync(a, down), story.sync(a, b)]
    assert a.values() == b.values() == down.values() == {"x": b"11", "its own": b"1"}
    assert conflicts(*results) == []


def test_a_device_behind_another_one_revives_nothing(story: Story) -> None:
    """syncthing/syncthing#10023: deletes are forgotten after six months, so a device that comes back later brings the
    files back; that is known, and taken as the price. Here a device counts, too, that others know of only through one
    of them."""
    desktop, laptop = story.place("desktop", {"file": b"1", "x": b"1"}, "folder"), story.place("laptop")
    tablet = story.place("tablet", kind="sqlite")
    for _ in range(2):
        story.sync(desktop, laptop)
        story.sync(laptop, tablet)
    story.sync(desktop, laptop)
    desktop.delete("file")
    for month in range(8):
        story.clock.sleep(30 * 24 * HOUR)
        desktop.put("x", b"%d" % month)
        story.sync(desktop, laptop)
    assert conflicts(story.sync(tablet, laptop), story.sync(desktop, laptop)) == []
    assert desktop.values() == laptop.values() == tablet.values() == {"x": b"7"}


def test_deletes_that_everybody_knows_do_not_pile_up(story: Story) -> None:
    """apache/couchdb#1505: deleted documents are kept for good, so each new client fetches the deletes of years
    before it is of use. Here a delete that all replicas have, and that is older than the grace, is in nobody's log
    any more."""
    places = [story.place("a", {f"k{number}": b"1" for number in range(20)}), story.place("b"), story.place("c")]
    story.round(*places)
    deletes = [Delete(f"k{number}") for number in range(15)]
    kvsync.commit(places[0].target, deletes, environment=story.clock.environment)
    for week in range(8):
        story.round(*places)
        story.clock.sleep(7 * 24 * HOUR)
        places[0].put("week", b"%d" % week)
    story.round(*places)
    left = {"week": b"7"} | {f"k{number}": b"1" for number in range(15, 20)}
    assert [place.values() for place in places] == [left] * 3
    assert [change.key for place in places for change in kvsync.log(place.target) if change.deletes] == []
