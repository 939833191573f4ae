"""Folders as people have them: a git working copy and a Maildir, each synced with SQLite and with another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

import kvsync

if TYPE_CHECKING:
    from pathlib import Path

    from kvsync import SyncResult

GIT = shutil.which("git")
PEERS = ["folder", "sqlite"]


class Trio:
    """Two folders, and what is between them: nothing, or a database that both are synced with."""

    def __init__(self, folder: Path, peer: str) -> None:
        self.here, self.there = folder / "here", folder / "there"
        self._between = None if peer == "folder" else f"sqlite:///{folder / 'between.db'}"
        self.here.mkdir()

    def sync(self) -> None:
        """Bring both folders to the same state, and see that nothing is left to do."""
        for _ in range(2):
            results = self._run()
        assert not any(result.pushed or result.pulled for result in results)

    def _run(self) -> list[SyncResult]:
        here, there = str(self.here), str(self.there)
        pairs = [(here, there)] if self._between is None else [(here, self._between), (self._between, there)] * 2
        results = [kvsync.sync(*pair, scan=True, max_delete="100%") for pair in pairs]
        for result in results:
            assert (result.missing, result.conflicts, result.unreadable) == ([], [], [])
        return results[-2:]


def tree(root: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(".kvsync")}


def git(root: Path, *words: str) -> str:
    assert GIT is not None
    environment = {
        **os.environ,
        "GIT_OPTIONAL_LOCKS": "0",  # otherwise even `git status` writes `.git/index`
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **dict.fromkeys(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"], "Ada"),
        **dict.fromkeys(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"], "ada@example.org"),
    }
    done = subprocess.run([GIT, "-C", str(root), *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def commit(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    git(root, "add", "-A", ".")
    git(root, "commit", "-q", "-m", f"Change {name}")


def sound(*roots: Path) -> None:
    """Check that each is a repository without damage and without changes, and that all are the same."""
    for root in roots:
        git(root, "fsck", "--strict", "--no-dangling")
    shown = [git(root, "log", "--all", "--oneline", "--decorate") for root in roots]
    assert len(set(shown)) == 1
    assert len({git(root, "branch", "--list") for root in roots}) == 1
    assert {git(root, "status", "--porcelain") for root in roots} == {""}


@pytest.mark.skipif(GIT is None, reason="needs git")
@pytest.mark.parametrize("peer", PEERS)
def test_a_git_working_copy(folder: Path, peer: str) -> None:
    both = Trio(folder, peer)
    here, there = both.here, both.there
    git(here, "init", "-q", "-b", "main")
    (here / ".git/info/exclude").write_text(".kvsync/\n")
    git(here, "config", "core.fileMode", "false")
    (here / "script").touch(0o755)
    commit(here, "README", "one")
    git(here, "branch", "topic")
    both.sync()
    sound(here, there)

    commit(there, "README", "two")
    git(there, "branch", "-m", "topic", "topic/x")
    both.sync()
    sound(here, there)
    assert git(here, "branch", "--list").split() == ["*", "main", "topic/x"]

    git(here, "branch", "-m", "topic/x", "topic")
    git(here, "tag", "v1")
    commit(here, "second", "three")
    both.sync()
    sound(here, there)
    assert not [name for name in tree(there) if name.endswith("%value")]

    git(here, "gc", "-q", "--prune=now")
    both.sync()
    sound(here, there)

    git(there, "switch", "-q", "topic")
    commit(there, "on topic", "four")
    git(there, "gc", "-q", "--prune=now")
    both.sync()
    sound(here, there)
    assert tree(here) == tree(there)
    commit(here, "here again", "five")
    both.sync()
    sound(here, there)


def deliver(maildir: Path, name: str, text: str) -> None:
    """Deliver as mail programs do: written to `tmp`, then renamed to `new`."""
    (maildir / "tmp" / name).write_text(text)
    os.rename(maildir / "tmp" / name, maildir / "new" / name)


def flag(maildir: Path, name: str, flags: str) -> None:
    (found,) = [path for part in ("new", "cur") for path in (maildir / part).glob(f"{name}*")]
    os.rename(found, maildir / "cur" / f"{name}:2,{flags}")


def mails(maildir: Path) -> list[str]:
    return sorted(name for name in tree(maildir) if not name.startswith("tmp/"))


@pytest.mark.parametrize("peer", PEERS)
def test_a_maildir(folder: Path, peer: str) -> None:
    both = Trio(folder, peer)
    here, there = both.here, both.there
    for root in (here, there):  # an empty directory has no key, so both sides need theirs
        for part in ("tmp", "new", "cur"):
            (root / part).mkdir(parents=True)
    for number in range(5):
        deliver(here, f"17000000{number}.M1P1.host", f"mail {number}")
    both.sync()
    assert mails(here) == mails(there)
    assert len(mails(there)) == 5

    for number in range(5):
        flag(there, f"17000000{number}.M1P1.host", "S")
    deliver(here, "170000010.M1P1.host", "another")
    both.sync()
    assert mails(here) == mails(there)
    assert (here / "new").is_dir()
    assert sum(name.startswith("cur/") for name in mails(here)) == 5

    flag(here, "170000010.M1P1.host", "")
    flag(here, "170000000.M1P1.host", "FS")
    flag(there, "170000001.M1P1.host", "RS")
    both.sync()
    assert mails(here) == mails(there)
    for path in (there / "cur").iterdir():
        path.unlink()
    both.sync()
    assert mails(here) == []
    assert all((root / part).is_dir() for root in (here, there) for part in ("tmp", "new", "cur"))
    deliver(there, "170000020.M1P1.host", "last")
    both.sync()
    assert mails(here) == ["new/170000020.M1P1.host"]
