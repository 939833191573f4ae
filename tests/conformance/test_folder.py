"""Folders against the suite for storages."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kvsync.storages.contract import Capabilities, OpaqueTokens, Support, Tier
from kvsync.storages.folder import FolderStorage
from kvsync.storages.folder.token import is_young
from kvsync.storages.partial import PartialStorage
from kvsync.testing.conformance import StorageConformance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kvsync.storages.contract import Storage


EXPECTED = Capabilities(
    Tier.FOLDER,
    tokens=OpaqueTokens(is_young=is_young),
    supports=frozenset(
        {
            Support.TOKENS,
            Support.SIZES,
            Support.STREAMING,
            Support.IDENTITY,
            Support.NESTING,
            Support.SKIPPED,
            Support.DRY_PROBE,
        }
    ),
)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out `fsync`: what it does shows only after a power cut, and here it would be called 50,000 times."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class TestFolder(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(FolderStorage, tmp_path / "folder")


class TestLinkToFolder(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        return partial(FolderStorage, tmp_path / "link", create=False)


class TestFolderWithoutSomeKeys(StorageConformance):
    """What is left out of a folder changes nothing about the rest."""

    expects = EXPECTED
    processes = False

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return lambda: PartialStorage(FolderStorage(tmp_path / "folder"), {"own.db": "it is somebody else's"})


class TestFolderWithLinksFollowed(StorageConformance):
    expects = EXPECTED

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Storage]:
        return partial(FolderStorage, tmp_path / "folder", links="follow")
