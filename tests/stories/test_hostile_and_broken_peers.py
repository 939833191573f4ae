"""Peers that send what they should not, and storages that do not do what they were told."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from places import FolderPlace, SqlitePlace
from telling import command, missing, told, unreadable

import kvsync
from kvsync import Put

if TYPE_CHECKING:
    from telling import Story


def test_a_link_in_the_folder_leads_no_write_out_of_it(story: Story) -> None:
    """syncthing/syncthing#4286, CVE-2017-1000420: a peer made a link in a shared folder, and then wrote a file
    `link/x`: it landed wherever the link led. Here nothing is written through a link, and the key is told as
    missing."""
    folder, peer = story.place("folder", {"x": b"1"}, "folder"), story.place("peer", {"out/pwned": b"evil"})
    assert isinstance(folder, FolderPlace)
    outside = story.folder / "outside"
    outside.mkdir()
    (folder.path / "out").symlink_to(outside)
    result = story.sync(peer, folder)
    assert missing(result) == [("out/pwned", "target")]
    assert list(outside.iterdir()) == []
    assert (folder.path / "out").is_symlink()


@pytest.mark.parametrize("key", ["../../PWNED.txt", "/etc/PWNED.txt", "a/../../PWNED.txt", "..\\PWNED.txt"])
def test_a_key_with_dots_stays_in_the_folder(story: Story, key: str) -> None:
    """philips/supernote-obsidian-plugin#165: a device listed a file `/../../PWNED.txt`, and it was written outside of
    the synced folder. Here such a key has a quoted file name within the folder, and is the same key when it is
    read."""
    folder, peer = story.place("folder", {"x": b"1"}, "folder"), story.place("peer", {key: b"evil"})
    assert isinstance(folder, FolderPlace)
    before = {path for path in story.folder.rglob("*PWNED*") if not path.is_relative_to(folder.path)}
    story.sync(peer, folder)
    after = {path for path in story.folder.rglob("*PWNED*") if not path.is_relative_to(folder.path)}
    assert before == after == set()
    other = story.place("other")
    story.sync(folder, other)
    assert other.values() == peer.values() == {key: b"evil", "x": b"1"}


@pytest.mark.parametrize("key", [".KVSYNC/manifest", ".kvSync/lease", "sub/.Kvsync/manifest"])
def test_a_key_that_folds_to_the_index_is_refused(story: Story, key: str) -> None:
    """rapid7/metasploit-framework#4435, CVE-2014-9390: `.giT/hooks` in a repository became git's own `.git/hooks`
    where names fold. Here a key that is the index in any spelling is refused, from the caller and from a peer's
    log."""
    folder, peer = story.place("folder", {"x": b"1"}, "folder"), story.place("peer", kind="sqlite")
    with pytest.raises(kvsync.UsageError, match="reserved"):
        kvsync.sync(folder.target, peer.target, [Put(key, b"evil")])
    assert isinstance(peer, SqlitePlace)
    peer.put(key, b"evil")
    peer.put("y", b"2")
    result = story.sync(folder, peer)
    assert (result.pushed, result.pulled) == (1, 1)
    assert [one.side for one in result.unreadable] == ["target"]
    assert folder.values() == {"x": b"1", "y": b"2"}


def test_a_trigger_that_rewrites_a_row_is_found_at_once(story: Story) -> None:
    """Mimetis/Dotmim.Sync#948: a trigger of the server changed each row that was inserted. The client never saw that,
    not even with the next sync. Here a row is looked at after it is written: what is not as given is undone, and
    told."""
    source, server = story.place("source", {"price": b"1", "fixed": b"1"}), story.place("server", kind="sqlite")
    assert isinstance(server, SqlitePlace)
    with closing(sqlite3.connect(server.path)) as connection, connection:
        connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        body = "UPDATE kv SET value = x'39' WHERE key = NEW.key AND NEW.key = 'price'"
        connection.execute(f"CREATE TRIGGER change AFTER INSERT ON kv BEGIN {body}; END")
    result = story.sync(source, server)
    assert (result.pushed, missing(result)) == (1, [("price", "target")])
    assert server.values() == {"fixed": b"1"}
    assert source.values() == {"price": b"1", "fixed": b"1"}


def test_a_list_in_the_place_of_a_string_is_not_overwritten(story: Story) -> None:
    """redis/redis#6712: SET replaces what is at a key, whatever its type is, so a plain write made an end of another
    data type. Here a key that holds a list now is told as unreadable: it is neither a delete nor overwritten, and all
    others move."""
    from server_places import RedisPlace

    server, peer = story.place("server", {"k": b"1", "other": b"1"}, "redis"), story.place("peer", kind="sqlite")
    assert isinstance(server, RedisPlace)
    story.sync(server, peer)
    with server.client() as client:
        client.delete(f"{server.prefix}k")
        client.rpush(f"{server.prefix}k", "a", "b")
        peer.put("k", b"2")
        peer.put("other", b"2")
        result = story.sync(server, peer)
        assert ("k", "source") in unreadable(result) + missing(result)
        assert client.lrange(f"{server.prefix}k", 0, -1) == [b"a", b"b"]
        assert client.get(f"{server.prefix}other") == b"2"
    assert peer.values() == {"k": b"2", "other": b"2"}


def test_a_session_keeps_its_time_to_live_on_its_way(story: Story) -> None:
    """reverbdotcom/migr8#1: keys were copied from one Redis to another without their expiry, so they stayed for ever.
    Here the time at which a value expires travels with it, and an expired value is not a delete."""
    from server_places import RedisPlace

    one, other = story.place("one", kind="redis"), story.place("other", kind="redis")
    assert isinstance(one, RedisPlace)
    assert isinstance(other, RedisPlace)
    one.put("user", b"Ada")
    started = time.monotonic()
    kvsync.sync(one.target, other.target, scan=True)
    lifetime_ms = int(300 + 5000 * (time.monotonic() - started))  # long enough for one run on this machine
    with one.client() as client:
        client.set(f"{one.prefix}session", b"open", px=lifetime_ms)
        kvsync.sync(one.target, other.target, scan=True)
        assert 0 < client.pttl(f"{other.prefix}session") <= lifetime_ms
        assert client.pttl(f"{other.prefix}user") == -1
        time.sleep(lifetime_ms / 1000)
        result = kvsync.sync(one.target, other.target, scan=True)
    assert told(result) == (0, 0, 0, 0, 0)
    assert one.values() == other.values() == {"user": b"Ada"}


def test_a_damaged_index_is_an_error_and_not_an_empty_one(story: Story) -> None:
    """NousResearch/hermes-agent#46746: the listings of a bidirectional sync were damaged. From then on each run
    failed, for eleven days, and nobody knew. Here damage is found by checksums; the command ends with 1, and says
    what to do."""
    one, other = story.place("one", {"a": b"1", "b": b"1"}, "folder"), story.place("other", kind="sqlite")
    story.sync(one, other)
    manifest = bytearray(one.objects()["manifest"])
    manifest[len(manifest) // 2] ^= 1
    one.replace("manifest", bytes(manifest))
    one.delete("a")
    with pytest.raises(kvsync.IndexDamagedError) as damaged:
        story.sync(one, other)
    assert damaged.value.name == "manifest"
    assert command("sync", one.target, other.target) == 1
    assert one.values() == {"b": b"1"}
    assert other.values() == {"a": b"1", "b": b"1"}
