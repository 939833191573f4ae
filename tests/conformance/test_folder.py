"""Folders against the suite for storages."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from shortened import shortened

from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.storages.folder import FolderStorage
from kvsync.storages.folder.token import is_young
from kvsync.storages.partial import PartialStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.FOLDER,
    tokens=OpaqueTokens(is_young=is_young),
    supports=frozenset(
        {
            Support.TOKENS,
            Support.SIZES,
            Support.RANGES,
            Support.STREAMING,
            Support.IDENTITY,
            Support.NESTING,
            Support.SKIPPED,
            Support.DRY_PROBE,
            Support.HINTS,
        }
    ),
)


def change_flag(flag: str, path: Path) -> None:
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, flag, str(path)], check=False, capture_output=True).returncode:
        pytest.skip("cannot make a file immutable here")


def dressed(path: Path) -> object:
    status, attributes = os.stat(path), os.listxattr(path)
    return status.st_mode, status.st_uid, status.st_gid, {name: os.getxattr(path, name) for name in attributes}


class TestFolder(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(FolderStorage, tmp_path / "folder")

    @pytest.fixture
    def hinder(self, tmp_path: Path) -> Iterator[Callable[[str], object]]:
        """Make a file one that not even root may change."""
        hindered: list[Path] = []

        def hinder(key: str) -> None:
            change_flag("+i", tmp_path / "folder" / key)
            hindered.append(tmp_path / "folder" / key)

        yield hinder
        for path in hindered:
            change_flag("-i", path)

    @pytest.fixture
    def spoil(self, tmp_path: Path) -> Callable[[str], object]:
        """Put a link in the place of a file."""

        def spoil(key: str) -> None:
            (tmp_path / "elsewhere").write_bytes((tmp_path / "folder" / key).read_bytes())
            (tmp_path / "folder" / key).unlink()
            (tmp_path / "folder" / key).symlink_to(tmp_path / "elsewhere")

        return spoil

    @pytest.fixture
    def misname(self, tmp_path: Path) -> Callable[[], object]:
        """Make a file whose name is not UTF-8."""
        return lambda: os.close(os.open(os.fsencode(tmp_path) + b"/folder/bad\xff", os.O_CREAT | os.O_WRONLY))

    @pytest.fixture
    def dress(self, tmp_path: Path) -> Callable[[str], Callable[[], object]]:
        """Give a file a mode and, as far as we may, another owner and an attribute."""

        def dress(key: str) -> Callable[[], object]:
            path = tmp_path / "folder" / key
            os.chmod(path, 0o640)
            if os.geteuid() == 0:
                os.chown(path, 1234, 5678)
            with contextlib.suppress(OSError):
                os.setxattr(path, "user.origin", b"a camera")
            return partial(dressed, path)

        return dress


@shortened
class TestFolderThatCarriesMetadata(StorageConformance):
    expects = replace(EXPECTED, supports=EXPECTED.supports | {Support.METADATA})

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(FolderStorage, tmp_path / "folder", meta=("mode", "mtime"))


@shortened
class TestFolderThatKeepsEmptyDirectories(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(FolderStorage, tmp_path / "folder", empty_dirs="keep")


@shortened
class TestLinkToFolder(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        return partial(FolderStorage, tmp_path / "link", create=False)


@shortened
class TestFolderWithoutSomeKeys(StorageConformance):
    """What is left out of a folder changes nothing about the rest."""

    expects = EXPECTED
    processes = False

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: PartialStorage(FolderStorage(tmp_path / "folder"), {"own.db": "it is somebody else's"})


@shortened
class TestFolderWithLinksFollowed(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(FolderStorage, tmp_path / "folder", links="follow")
