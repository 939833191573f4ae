"""The pages of a cursor of the server, each of which is on its way while the caller works on the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.storages.postgres.connections import library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection, ServerCursor

__all__ = ["CursorPages"]


class CursorPages:
    """The rest of a cursor, page by page; nobody else may use its connection meanwhile.

    psycopg's own call sends a request and waits for the rows. So this one speaks to the layer below.
    """

    def __init__(self, cursor: ServerCursor[Any], count: int) -> None:
        self._psycopg = library()
        self._connection: Connection[Any] = cursor.connection
        self._transformer = self._psycopg.adapt.Transformer.from_context(cursor)
        self._request = f'FETCH FORWARD {count} FROM "{cursor.name}"'.encode()
        self._count = count
        self._is_due = False
        self._received: list[Any] = []

    def __iter__(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of each page, which is not empty.

        Raises:
            psycopg.Error: the server failed or refused.
        """
        self._send()
        try:
            while rows := self._rows():
                yield rows
        finally:
            self.settle()

    def settle(self) -> None:
        """Receive what is on its way, so that the connection can be used for something else, until the next page."""
        if self._is_due:
            self._is_due = False
            self._received = self._connection.wait(self._psycopg.generators.fetch_many(self._connection.pgconn))

    def _rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of the page that was asked for, after asking for the next one if there may be one."""
        self.settle()
        if not self._received:
            return []
        (result,), self._received = self._received, []
        if result.status != self._psycopg.pq.ExecStatus.TUPLES_OK:
            raise self._psycopg.errors.error_from_result(result)
        if result.ntuples == self._count:
            self._send()
        self._transformer.set_pgresult(result)
        rows: list[tuple[Any, ...]] = self._transformer.load_rows(0, result.ntuples, tuple)
        return rows

    def _send(self) -> None:
        connection = self._connection
        connection.pgconn.send_query_params(self._request, None, result_format=self._psycopg.pq.Format.BINARY)
        connection.wait(self._psycopg.generators.send(connection.pgconn))
        self._is_due = True
