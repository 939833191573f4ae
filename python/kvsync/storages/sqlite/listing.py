"""A scan of a table: its rows in the UTF-8 byte order of their keys, a page at a time."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from kvsync.errors import StorageError
from kvsync.storages.contract import SKIPPED_MAX
from kvsync.storages.sqlite.fetch import bytes_of, fetch
from kvsync.storages.sqlite.keys import Raw, is_text, reserved, text_of
from kvsync.storages.sqlite.rows import FETCH_COUNT, SCAN_BYTES, SCAN_COUNT, Found, Rows, shown_class
from kvsync.storages.wording import escaped
from kvsync.types import Skipped

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from kvsync.storages.contract import Pages

__all__ = ["Listing"]

GROWTH = 8
"""From batch to batch, so many times more rows are read at most."""

Reading: TypeAlias = "Callable[[], AbstractContextManager[sqlite3.Connection | None]]"


class Listing:
    """One scan of a table.

    The index has texts in the order in which a scan needs them, and all other keys elsewhere. Those are few, or all of
    them where the column holds integers: they are read at once, sorted, and merged into the pages of texts.

    Args:
        rows: the table.

    Attributes:
        skipped: what cannot be a key, the first `SKIPPED_MAX`.
    """

    def __init__(self, rows: Rows) -> None:
        self.skipped: tuple[Skipped, ...] = ()
        self._rows = rows
        self._odd: list[tuple[bytes, Raw]] = []  # ascending
        self._taken = 0
        self._count = FETCH_COUNT

    def batches(self, reading: Reading) -> Pages:
        """Yield every key with the token of its value.

        Raises:
            StorageError: the table was removed meanwhile.
        """
        with reading() as connection:
            if connection is None:
                return
            self._collect(connection)
            last, more = None, self._rows.schema.paged
        while more or self._taken < len(self._odd):
            with reading() as connection:
                if connection is None:
                    message = f"table {self._rows.name!r} was removed while it was scanned: run again"
                    raise StorageError(message)
                if more and self._taken == len(self._odd) and (page := self._rows.plain_page(connection, last)):
                    last = bytes_of(page.last or "")
                    yield page
                    continue
                columns = self._rows.page(connection, last) if more else ([], [], [])
                keys, values, times = columns
                last, more = (bytes_of(keys[-1]), True) if keys else (None, False)
                odd = self._rows.select(connection, self._take(last))
            rows = zip(keys, values, times, strict=True) if times else zip(keys, values, strict=True)
            batch = self._batch(list(rows), odd)
            if batch.keys:
                self._adapt(batch)
                yield batch.page()

    def _collect(self, connection: sqlite3.Connection) -> None:
        """Read the keys that no page has."""
        rows, kind = self._rows, self._rows.schema.keys
        statement = rows.sql.odd_keys if rows.schema.paged else rows.sql.keys
        raws = [row[0] for row in fetch(connection, statement)]
        texts = [kind.text(raw) for raw in raws]
        for raw in (raw for raw, text in zip(raws, texts, strict=True) if text is None):
            self._skip_raw(raw)
        odd = ((text.encode(), raw) for raw, text in zip(raws, texts, strict=True) if text is not None)
        self._odd = sorted(odd, key=itemgetter(0))
        nulls = connection.execute(rows.sql.nulls).fetchone()[0] if rows.sql.nulls else 0
        if nulls:
            self._skip(
                "NULL", f"the key is NULL in {nulls} of the rows of {rows.name!r}: give them keys, or delete them"
            )

    def _take(self, last: bytes | None) -> list[Raw]:
        """Return the next odd keys up to `last`; without one, the next few, and all of one text together."""
        first = stop = self._taken
        while stop < len(self._odd):
            text = self._odd[stop][0]
            if text > last if last is not None else stop - first >= self._count and text != self._odd[stop - 1][0]:
                break
            stop += 1
        self._taken = stop
        return [raw for _, raw in self._odd[first:stop]]

    def _adapt(self, batch: Found) -> None:
        """Read as many rows at a time as fit, by the size of the last ones."""
        size = sum(len(value) for value in batch.values if isinstance(value, bytes))
        fitting = SCAN_BYTES * len(batch.keys) // max(size, 1)
        self._count = max(FETCH_COUNT, min(fitting, self._count * GROWTH, SCAN_COUNT))

    def _batch(self, page: Sequence[tuple[Any, ...]], odd: Sequence[tuple[Any, ...]]) -> Found:
        """Return what two ascending lists of rows hold, without what cannot be a key."""
        rows = sorted([*page, *odd], key=lambda row: _in_order(row[0])) if odd else page
        if not is_text(*(row[0] for row in page)):
            for row in rows:
                if self._rows.schema.keys.text(row[0]) is None:
                    self._skip_raw(row[0])
            rows = [row for row in rows if self._rows.schema.keys.text(row[0]) is not None]
        found = self._rows.found(rows)
        barred = reserved(found.keys)
        for key in sorted(barred):
            self._skip(key, "a component of the key is reserved for the index of kvsync: rename it")
        return found.without(barred)

    def _skip_raw(self, raw: object) -> None:
        if isinstance(raw, str | bytes) and (text := text_of(raw)) is not None:
            self._skip(text, f"its key is {shown_class(raw)}, and not an integer, as keys of this table are")
        elif isinstance(raw, str | bytes):
            self._skip(escaped(bytes_of(raw) if isinstance(raw, str) else raw), "its key is not UTF-8")
        else:
            self._skip(repr(raw), f"its key is {shown_class(raw)}")

    def _skip(self, name: str, reason: str) -> None:
        if len(self.skipped) < SKIPPED_MAX:
            self.skipped += (Skipped(f"{name:.200}", reason, harmless=False),)


def _in_order(raw: Raw) -> bytes:
    """Return the UTF-8 of a key, by which a scan is ordered."""
    if isinstance(raw, bytes):
        return raw
    return bytes_of(raw if isinstance(raw, str) else str(raw))
