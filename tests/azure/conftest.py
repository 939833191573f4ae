"""An Azure emulator for all tests here; the tests' shared modules of other folders are on the import path."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.azurite import AzuriteServer

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))


@pytest.fixture(scope="session")
def azure_server() -> AzuriteServer:
    """Give an emulator of Azure's blobs."""
    server: AzuriteServer = running("azure")
    return server


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return an empty directory."""
    with tempfile.TemporaryDirectory(prefix="kvsync-test-") as name:
        yield Path(name)
