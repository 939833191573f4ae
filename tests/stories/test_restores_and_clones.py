"""Storages that are put back from a backup, copied, or made anew: whoever went on meanwhile loses nothing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from places import FolderPlace
from telling import command, conflicts, kept, moved, told

import kvsync
from kvsync import Put

if TYPE_CHECKING:
    from telling import Story

NOTES = {f"note {number}": b"old" for number in range(4)}


def test_a_server_put_back_deletes_nothing_that_clients_made_since(story: Story) -> None:
    """owncloud/client#4088: a server was restored from a backup, and its clients deleted the files of a whole day,
    since the server no longer had them. Here the client's files go back to the server, and so does its edit."""
    server, laptop = story.place("server", NOTES, "sqlite"), story.place("laptop", kind="folder")
    story.sync(server, laptop)
    last_night = story.backup(server)
    laptop.put("report", b"a day's work")
    laptop.put("note 1", b"edited")
    story.sync(server, laptop)
    story.restore(server, last_night)
    result = story.sync(server, laptop)
    assert server.values() == laptop.values() == {**NOTES, "report": b"a day's work", "note 1": b"edited"}
    assert told(result) == (0, 2, 0, 0, 0)
    assert kept(server, laptop) == []


def test_a_laptop_put_back_deletes_nothing_from_the_server(story: Story) -> None:
    """nextcloud/desktop#2913: a Mac was restored from its backup of some weeks ago. The client took every file that
    was younger than the backup for deleted, and deleted it on the server. Here the laptop gets what it lacks."""
    laptop, server = story.place("laptop", NOTES, "folder"), story.place("server")
    story.sync(laptop, server)
    weeks_ago = story.backup(laptop)
    server.put("from elsewhere", b"1")
    laptop.put("its own", b"2")
    story.sync(laptop, server)
    story.restore(laptop, weeks_ago)
    result = story.sync(laptop, server)
    assert laptop.values() == server.values() == {**NOTES, "from elsewhere": b"1", "its own": b"2"}
    assert told(result) == (0, 2, 0, 0, 0)


def test_old_files_with_new_times_do_not_replace_what_was_edited_meanwhile(story: Story) -> None:
    """syncthing/syncthing#10216: a home directory came back from a two months old backup, all its files dated today.
    They were sent to the other devices in the place of newer ones. Here the same bytes are no change, whatever their
    date."""
    laptop, desktop = story.place("laptop", NOTES, "folder"), story.place("desktop", kind="folder")
    story.sync(laptop, desktop)
    two_months_ago = story.backup(laptop)
    desktop.put("note 2", b"edited on the desktop")
    story.sync(laptop, desktop)
    story.restore(laptop, two_months_ago)
    for name, value in NOTES.items():
        laptop.put(name, value)
    result = story.sync(laptop, desktop)
    assert laptop.values() == desktop.values() == {**NOTES, "note 2": b"edited on the desktop"}
    assert told(result) == (0, 1, 0, 0, 0)


def test_an_index_that_is_older_than_the_values_takes_nothing_back(story: Story) -> None:
    """haiwen/seafile#1533: in a move of a server, its database was replaced by one of three months ago, though the
    files were current. Clients reverted and deleted their own. Here equal values are equal, whatever the index
    says."""
    server, laptop = story.place("server", NOTES, "folder"), story.place("laptop")
    assert isinstance(server, FolderPlace)
    story.sync(server, laptop)
    shutil.copytree(server.path / ".kvsync", story.folder / "three months ago")
    server.put("note 1", b"edited")
    laptop.put("new", b"1")
    story.sync(server, laptop)
    shutil.rmtree(server.path / ".kvsync")
    shutil.copytree(story.folder / "three months ago", server.path / ".kvsync")
    result = story.sync(server, laptop)
    assert server.values() == laptop.values() == {**NOTES, "note 1": b"edited", "new": b"1"}
    assert conflicts(result) == []
    assert kept(server, laptop) == []


def test_an_index_that_came_back_without_its_files_deletes_nothing(story: Story) -> None:
    """researchxxl/syncthing-android#175: a phone was reset, and the backup brought back the app's data without the
    synced files. The app took them for deleted, and deleted them everywhere. Here the run stops, and the command ends
    with 5; without its index, the phone is filled again."""
    phone, laptop = story.place("phone", NOTES, "folder"), story.place("laptop", kind="folder")
    story.sync(phone, laptop)
    for name in NOTES:
        phone.delete(name)
    with pytest.raises(kvsync.BudgetError) as stopped:
        story.sync(phone, laptop)
    assert (stopped.value.emptied, stopped.value.deleted) == (True, sorted(NOTES))
    assert command("sync", phone.target, laptop.target) == 5
    assert laptop.values() == NOTES
    phone.drop_index()
    assert moved(story.sync(phone, laptop)) == (0, len(NOTES))
    assert phone.values() == laptop.values() == NOTES


@pytest.mark.parametrize("kind", ["folder", "sqlite"])
def test_a_copied_storage_and_its_original_are_both_used(story: Story, kind: str) -> None:
    """borgbackup/borg#3933: a repository that is copied keeps its id, so whoever uses both confuses their caches.
    Here both go on, and meet through a third that both have met: each gets what the other wrote."""
    original, hub = story.place("original", NOTES, kind), story.place("hub")
    story.sync(original, hub)
    copy = story.backup(original)
    original.put("by the original", b"1")
    original.put("note 1", b"of the original")
    copy.put("by the copy", b"2")
    copy.put("note 2", b"of the copy")
    results = story.round(hub, copy, original)
    written = {"by the original": b"1", "by the copy": b"2", "note 1": b"of the original", "note 2": b"of the copy"}
    assert original.values() == copy.values() == hub.values() == NOTES | written
    assert conflicts(*results) == []
    assert kvsync.status(original.target).replica != kvsync.status(copy.target).replica


def test_what_a_restored_database_writes_next_is_not_taken_for_known(story: Story) -> None:
    """benbjohnson/litestream#781: after a restore, transactions were counted from 0 again. What was written went to
    no replica until the count passed the old one. Here the first write after the restore arrives with the first
    run."""
    database, replica = story.place("database", {"row 1": b"1"}, "sqlite"), story.place("replica")
    story.sync(database, replica)
    backup = story.backup(database)
    for number in range(2, 7):
        database.put(f"row {number}", b"%d" % number)
        story.sync(database, replica)
    story.restore(database, backup)
    database.put("row 7", b"7")
    result = story.sync(database, replica)
    assert database.values() == replica.values() == {f"row {number}": b"%d" % number for number in range(1, 8)}
    assert told(result) == (1, 5, 0, 0, 0)


def test_two_lives_of_one_replica_are_told_apart_by_a_third(story: Story) -> None:
    """basho/riak_kv#679: a node that lost its data counted its writes from a lower number again. To others they were
    older than what they had seen of the node, and vanished. Here a third replica, which met the new life first,
    brings each life's write to those who lack it."""
    node, one, other = story.place("node", NOTES, "sqlite"), story.place("one"), story.place("other")
    story.round(node, one, other)
    backup = story.backup(node)
    node.put("in the old life", b"1")
    story.sync(node, one)
    story.restore(node, backup)
    node.put("in the new life", b"2")
    story.sync(node, other)
    results = [story.sync(one, other), *story.round(node, one, other), story.sync(one, other)]
    expected = {**NOTES, "in the old life": b"1", "in the new life": b"2"}
    assert node.values() == one.values() == other.values() == expected
    assert conflicts(*results) == []


def test_both_lives_wrote_one_key_and_a_third_met_the_restored_one_first(story: Story) -> None:
    """basho/riak_kv#1070, backup and restore: two values of one key bear the same name in the version vector, so one
    replaces the other without a sibling. Here it is a conflict: one wins everywhere, the other is kept, and told."""
    node, one, other = story.place("node", {"k": b"0"}, "sqlite"), story.place("one"), story.place("other")
    story.round(node, one, other)
    backup = story.backup(node)
    node.put("k", b"old life")
    story.sync(node, one)
    story.restore(node, backup)
    node.put("k", b"new life")
    story.sync(node, other)
    results = [story.sync(one, other), *story.round(node, one, other), story.sync(one, other)]
    assert node.values() == one.values() == other.values() == {"k": b"new life"}
    assert {key for key, _ in conflicts(*results)} == {"k"}
    assert set(kept(node, one, other)) == {("k", b"old life")}


def test_a_primary_that_is_reborn_empty_does_not_empty_its_replicas(story: Story) -> None:
    """apecloud/kubeblocks#10753: a Redis primary lost its disk and came back as the primary, empty. Its replica
    copied the emptiness: nothing was left anywhere. Here an empty server without an index is a new one, and is
    filled."""
    primary, replica = story.place("primary", NOTES, "redis"), story.place("replica", kind="sqlite")
    story.sync(primary, replica)
    primary.drop_index()
    for key in NOTES:
        primary.delete(key)
    result = story.sync(primary, replica)
    assert primary.values() == replica.values() == NOTES
    assert told(result) == (0, 4, 0, 0, 0)


def test_a_server_that_is_installed_anew_takes_nothing_from_its_clients(story: Story) -> None:
    """nextcloud/server#43792: a server was installed anew, and its users made again under their old names. The client
    took the new, nearly empty server for the old one, and deleted all local files. Here both get what they lack."""
    server, laptop = story.place("server", NOTES, "sqlite"), story.place("laptop", kind="folder")
    story.sync(server, laptop)
    os.remove(story.folder / "server.db")
    server.put("welcome", b"hello")
    result = story.sync(server, laptop)
    assert server.values() == laptop.values() == {**NOTES, "welcome": b"hello"}
    assert told(result) == (1, 4, 0, 0, 0)


def test_a_target_that_is_made_anew_gets_everything_again(story: Story) -> None:
    """apache/pouchdb#585: how far a replication had come was noted at its source only. The target was deleted and
    made anew, and got nothing. Here each storage says itself what it has, so a new one gets all."""
    source, target = story.place("source", NOTES), story.place("target", kind="sqlite")
    story.sync(source, target)
    os.remove(story.folder / "target.db")
    result = story.sync(source, target)
    assert target.values() == source.values() == NOTES
    assert told(result) == (4, 0, 0, 0, 0)


def test_a_storage_that_is_put_back_twice(story: Story) -> None:
    """benbjohnson/litestream#631: of several generations that restores had left behind, an old one was restored
    again. Here the storage may come back from any of its backups, in any order: its peer gives it what it lacks."""
    database, peer = story.place("database", {"row 0": b"0"}, "sqlite"), story.place("peer")
    backups = []
    for number in range(1, 4):
        story.sync(database, peer)
        backups.append(story.backup(database))
        database.put(f"row {number}", b"%d" % number)
    story.sync(database, peer)
    for number, backup in ((4, backups[2]), (5, backups[0])):
        story.restore(database, backup)
        database.put(f"row {number}", b"%d" % number)
        assert conflicts(story.sync(database, peer)) == []
    assert database.values() == peer.values() == {f"row {number}": b"%d" % number for number in range(6)}


def test_a_deleted_file_that_is_put_back_with_its_old_time_arrives(story: Story) -> None:
    """haiwen/seafile-client#1131: a file that had been deleted was restored on the server, and did not come to the
    client by any means. Here what is put back is a new value, though it bears its old time, and goes to all
    others."""
    server, client = story.place("server", NOTES, "folder"), story.place("client", kind="sqlite")
    assert isinstance(server, FolderPlace)
    story.sync(server, client)
    shutil.copy2(server.path / "note 1", story.folder / "note 1")
    server.delete("note 1")
    story.sync(server, client)
    assert "note 1" not in client.values()
    shutil.copy2(story.folder / "note 1", server.path / "note 1")
    assert told(story.sync(server, client)) == (1, 0, 0, 0, 0)
    assert told(story.sync(server, client)) == (0, 0, 0, 0, 0)
    assert server.values() == client.values() == NOTES


def test_a_change_given_before_the_restore_is_not_forgotten(story: Story) -> None:
    """rqlite/rqlite#1717: after a recovery, a node could be sent an old snapshot, and rows that had been acknowledged
    were gone. Here what one peer acknowledged is in its log, and comes back from there."""
    node, peer = story.place("node", kind="sqlite"), story.place("peer", kind="sqlite")
    kvsync.sync(node.target, peer.target, [Put("row 1", b"1")], environment=story.clock.environment)
    backup = story.backup(node)
    kvsync.sync(node.target, peer.target, [Put("row 2", b"2")], environment=story.clock.environment)
    story.restore(node, backup)
    result = kvsync.sync(node.target, peer.target, environment=story.clock.environment)
    assert node.values() == peer.values() == {"row 1": b"1", "row 2": b"2"}
    assert told(result) == (0, 1, 0, 0, 0)
