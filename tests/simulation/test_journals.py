"""Random histories of tracked tables: nothing that an application wrote by SQL is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from memory import folder_in_memory
from variants import amount

import journals

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

CHUNK = 25
CHUNKS = range(amount(4, 200))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_nothing_that_was_written_to_a_tracked_table_of_sqlite_is_lost(chunk: int) -> None:
    seeds = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    with folder_in_memory() as folder:
        played = [journals.play_sqlite(seed, str(folder)) for seed in seeds]
    # Both ways of looking are in them, and runs that are killed: a change to the histories may lose them unseen.
    assert sum(history.tracked_runs for history in played) > CHUNK
    assert sum(history.scans for history in played) > CHUNK
    assert sum(history.kills for history in played) > CHUNK // 4


def test_nothing_that_was_written_to_a_tracked_table_of_postgres_is_lost(postgres_server: PostgresServer) -> None:
    played = [journals.play_postgres(seed, postgres_server) for seed in range(amount(6, 500))]
    assert sum(history.tracked_runs for history in played) > len(played)
    assert sum(history.scans for history in played) > len(played)
