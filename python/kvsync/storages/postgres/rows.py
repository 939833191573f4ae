"""Read the rows of a PostgreSQL table, on one connection."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from kvsync.native import Page, digest_values
from kvsync.storages.contract import SKIPPED_MAX
from kvsync.storages.expiry import tokens_of
from kvsync.storages.postgres.pages import CursorPages
from kvsync.storages.postgres.table import INLINE_BYTES
from kvsync.storages.wording import escaped
from kvsync.types import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection

    from kvsync.storages.contract import Pages
    from kvsync.storages.postgres.table import Table

__all__ = ["NULL_VALUE", "SCAN_COUNT", "Rows", "are_plain"]

FETCH_BYTES = 8 << 20
SCAN_COUNT = FETCH_BYTES // INLINE_BYTES
NULL_VALUE = "its row holds NULL"


@dataclass(slots=True)
class Rows:
    """One table on one connection."""

    connection: Connection[Any]
    table: Table

    def select(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the existing values, None for NULL."""
        return self._by_key(self.table.select, keys)

    def times(self, keys: Sequence[str]) -> dict[str, int]:
        """Return when existing rows expire, 0 for never."""
        return self._by_key(self.table.select_expires, keys)

    def modified(self, keys: Sequence[str]) -> dict[str, int | None]:
        """Return when existing rows were last modified, None where the column does not say."""
        return self._by_key(self.table.select_modified, keys)

    def stored(self, keys: Sequence[str]) -> dict[str, tuple[bytes | None, int]]:
        """Return the SHA-256 of existing values, None for NULL, and when they expire; including expired rows."""
        found = self.ask(self.table.select_stored, self._raw(keys))
        return {self.text(key): (digest, due) for key, digest, due in found}

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return the keys that have a row, including expired ones."""
        return {self.text(key) for (key,) in self.ask(self.table.select_keys, self._raw(keys))}

    def storable(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that the key column can store."""
        return [key for key in keys if self.table.key.refuses(key) is None]

    def tokens(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Lock rows and return the tokens of their values; an empty one for NULL."""
        rows = self.ask(self.table.lock, self._raw(keys))
        found = [self.text(row[0]) for row in rows]
        return dict(zip(found, self._tokens(found, rows), strict=True))

    def scan(self, name: str, skipped: list[Skipped], *, alone: bool) -> Pages:
        """Yield every key with its token, ascending, an empty one for NULL.

        Args:
            name: of the server's cursor.
            skipped: gets the rows that have no key.
            alone: nobody else uses the connection meanwhile, so each page is requested before the caller works on the
                one before.
        """
        with self.connection.cursor(name, binary=True) as cursor:
            cursor.execute(self.table.scan)
            if not alone:
                while rows := cursor.fetchmany(SCAN_COUNT):
                    yield self._page(rows, skipped)
                return
            pages = CursorPages(cursor, SCAN_COUNT)
            for found in pages:
                if None in map(itemgetter(1), found):  # some values may have to be asked for
                    pages.settle()
                yield self._page(found, skipped)

    def page_of(self, keys: Sequence[str]) -> Page:
        """Return those of some ascending keys that are there, as a scan does."""
        return self._page(self.ask(self.table.select_listed, self._raw(keys)), [])

    def _page(self, rows: list[Any], skipped: list[Skipped]) -> Page:
        page = Page()
        if self.table.expires is not None or not page.add_rows(rows):
            self._add(page, rows, skipped)
        return page

    def raw(self, key: str) -> str | bytes:
        """Return what the key column stores."""
        return key.encode() if self.table.key.binary else key

    def text(self, raw: str | bytes) -> str:
        """Return the key that the key column stores."""
        return raw.decode() if isinstance(raw, bytes) else raw

    def ask(self, statement: str, raw: Sequence[object]) -> list[tuple[Any, ...]]:
        """Run a query over an array of keys, as the key column stores them."""
        return self.connection.cursor(binary=True).execute(statement, (raw,)).fetchall() if raw else []

    def _by_key(self, statement: str, keys: Sequence[str]) -> dict[str, Any]:
        rows = self.ask(statement, self._raw(keys))
        return {key.decode(): value for key, value in rows} if self.table.key.binary else dict(rows)

    def _raw(self, keys: Sequence[str]) -> list[Any]:
        if self.table.key.plain and are_plain(keys):
            return list(keys)
        return [self.raw(key) for key in self.storable(keys)]

    def _tokens(self, keys: Sequence[str], rows: Sequence[Any]) -> list[bytes]:
        digests = self._digests(keys, rows)
        if self.table.expires is None:
            return digests
        return tokens_of(digests, [row[3] if digest else 0 for row, digest in zip(rows, digests, strict=True)])

    def _add(self, page: Page, rows: Sequence[Any], skipped: list[Skipped]) -> None:
        """Append rows to a page, among which are expiring, large or empty ones, or keys that are none."""
        keys: list[Any] = [row[0] for row in rows]
        if self.table.key.binary or None in keys:
            rows, keys = _with_keys(rows, skipped)
        found = zip(self._digests(keys, rows), rows, strict=True)
        digests = [(digest, row[2] if row[1] is None else len(row[1])) if digest else None for digest, row in found]
        page.add_digests(keys, digests, None if self.table.expires is None else [row[3] for row in rows])

    def _digests(self, keys: Sequence[str], rows: Sequence[Any]) -> list[bytes]:
        values = [row[1] for row in rows]
        if None not in values:
            return digest_values(values)
        digests = iter(digest_values([value for value in values if value is not None]))
        sizes = {key: row[2] for key, row in zip(keys, rows, strict=True) if row[1] is None and row[2] is not None}
        large = self._large(sizes)
        return [
            next(digests) if value is not None else large.get(key, b"") for key, value in zip(keys, values, strict=True)
        ]

    def _large(self, sizes: dict[str, int]) -> dict[str, bytes]:
        """Return the digests of values that are too large to come with their row, a few at a time."""
        found: dict[str, bytes] = {}
        batch: list[str] = []
        total = 0
        for key, size in [*sizes.items(), ("", FETCH_BYTES)]:
            if batch and total + size > FETCH_BYTES:
                found_now = self._by_key(self.table.select_any, batch)
                values = {key: value for key, value in found_now.items() if value is not None}
                found.update(zip(values, digest_values(list(values.values())), strict=True))
                batch, total = [], 0
            batch.append(key)
            total += size
        return found


def _with_keys(rows: Sequence[Any], skipped: list[Skipped]) -> tuple[list[Any], list[str]]:
    """Return the rows that have a key, and their keys; report the others."""
    kept: list[Any] = []
    keys: list[str] = []
    for row in rows:
        key, reason = _key(row[0])
        if key is not None:
            keys.append(key)
            kept.append(row)
        elif len(skipped) < SKIPPED_MAX:
            skipped.append(Skipped(escaped(row[0]) if row[0] is not None else "NULL", reason, harmless=False))
    return kept, keys


def _key(raw: str | bytes | None) -> tuple[str | None, str]:
    """Return the key that a column stores, or None and why it is none."""
    if raw is None:
        return None, "the row has no key: give it one or delete it"
    try:
        return raw.decode() if isinstance(raw, bytes) else raw, ""
    except UnicodeDecodeError:
        return None, "the row's key is not UTF-8: give it another one or delete it"


def are_plain(keys: Iterable[str]) -> bool:
    """Whether no key has a NUL or a lone surrogate."""
    joined = "".join(keys)
    if "\0" in joined:
        return False
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True
