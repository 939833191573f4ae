"""What all tests share: real servers, each started once a test process, when a test first asks for it."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from budget import pytest_runtest_makereport, pytest_runtest_setup, pytest_terminal_summary  # noqa: F401 - hooks
from servers.running import running, stop_all

if TYPE_CHECKING:
    from servers.gcs import GcsServer
    from servers.nanio import NanioServer
    from servers.nats import NatsServer
    from servers.postgres import PostgresServer
    from servers.redis import RedisServer
    from servers.seaweed import SeaweedServer

pytest.register_assert_rewrite("storage_stories")

# Azure's emulator comes in no wheel, so these are not part of the suite: `make test-azure` brings it and runs them.
collect_ignore = [] if os.environ.get("KVSYNC_TEST_AZURITE") else ["azure"]


def pytest_sessionstart() -> None:
    """Leave out `fsync` in this process: what it does shows only after a power cut, and thousands wait for the disk."""
    os.fsync = lambda _: None


def pytest_collection_finish() -> None:
    """Take all that was collected out of the sight of the garbage collector, which went through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """End the servers with the test process."""
    stop_all()


@pytest.fixture(scope="session")
def redis_server() -> RedisServer:
    """Give a Redis (or Valkey) server."""
    server: RedisServer = running("redis")
    return server


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """Give a PostgreSQL server."""
    server: PostgresServer = running("postgres")
    return server


@pytest.fixture(scope="session")
def seaweed_server() -> SeaweedServer:
    """Give an S3 server with correct conditions."""
    server: SeaweedServer = running("s3")
    return server


@pytest.fixture(scope="session")
def nanio_server() -> NanioServer:
    """Give an S3 server that ignores conditions."""
    server: NanioServer = running("nanio")
    return server


@pytest.fixture(scope="session")
def nats_server() -> NatsServer:
    """Give a NATS server with JetStream."""
    server: NatsServer = running("nats")
    return server


@pytest.fixture(scope="session")
def gcs_server() -> GcsServer:
    """Give a double of Google Cloud Storage."""
    server: GcsServer = running("gcs")
    return server
