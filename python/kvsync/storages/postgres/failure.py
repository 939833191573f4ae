"""What errors of PostgreSQL mean, and what to do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.errors import StorageError
from kvsync.storages.wording import plain

if TYPE_CHECKING:
    from psycopg import Error

__all__ = ["failure", "is_about_a_row", "is_about_all", "is_passing", "refusal", "unreached"]

# By SQLSTATE, or its class; the first match counts.
_ADVICE = {
    "25006": "the database is read-only, perhaps a standby: name the primary",
    "25P03": "the server ended a transaction that was idle too long: run again",
    "28": "the server does not accept this user: check user, password and pg_hba.conf",
    "3D000": "the database does not exist: create it, or name another one",
    "3F000": "the schema does not exist: create it, or name another one with schema=",
    "40": "others were writing the same rows: run again",
    "42501": "the role lacks a permission: grant it, or name another user",
    "42P01": "a table was dropped meanwhile: run again",
    "53100": "the server's disk is full: make room and run again",
    "53300": "the server has no connection left: close some, or raise max_connections",
    "53": "the server is short of a resource: look at its log, and run again",
    "54": "a limit of PostgreSQL: shorten the key or the value",
    "55P03": "another transaction holds the row: wait for it, or raise lock_timeout",
    "57014": "the statement was cancelled: if statement_timeout did that, raise it; then run again",
    "57P": "the server is stopping or starting, and the outcome of the last write is unknown: run again",
    "58": "the server's machine failed: look at its log",
    "XX": "the database may be damaged: look at the server's log",
}
READ_ONLY = "25006"
_ABOUT_ROWS = {"22", "23", "44", "54", "P0"}
_ABOUT_ALL = ("08", "25", "40", "53", "55P03", "57", "58", "XX")
_UNREACHED = "check that the server runs, and the URL's host, port, user, password and TLS parameters"
_LOST = "the connection was lost, and the outcome of the last write is unknown: run again, which opens a new one"


def failure(error: Error, *, storage: str, text: str) -> StorageError:
    """Return the error to raise for psycopg's `error`, whose `text` contains no secrets any more."""
    state = error.sqlstate or ""
    known = (advice for start, advice in _ADVICE.items() if state.startswith(start))
    advice = next(known, "fix that and run again" if state else _LOST)
    return StorageError(f"{' '.join(text.split())}: {advice}", storage=storage)


def unreached(*, storage: str, text: str) -> StorageError:
    """Return the error to raise if no connection could be made; `text` contains no secrets any more."""
    return StorageError(f"{plain(text)}: {_UNREACHED}", storage=storage)


def is_about_a_row(error: Error, *, policies: bool) -> bool:
    """Whether the error is about single rows: their data, a constraint, a trigger, a policy of the table, or a limit.

    With `policies`, row-level security applies; without, a permission that is lacking is lacking for all rows.
    """
    state = error.sqlstate or ""
    if state[:2] in _ABOUT_ROWS or (policies and state == "42501"):
        return True
    # A function was running: a trigger may raise any error.
    return bool(error.diag.context) and state != "" and not state.startswith(_ABOUT_ALL)


def is_about_all(error: Error) -> bool:
    """Whether the error says nothing about single rows: the connection, the server or others failed."""
    state = error.sqlstate or ""
    return state != READ_ONLY and (state == "" or state.startswith(_ABOUT_ALL))


def refusal(error: Error) -> str:
    """Return why a row was refused."""
    reason = f"the database refused it: {error.diag.message_primary!s:.300}"
    return f"{reason}; give that column a default" if error.sqlstate == "23502" else reason


def is_passing(error: Error) -> bool:
    """Whether the server has undone the transaction only because of others, so that it can be repeated."""
    return error.sqlstate in {"40001", "40P01"}
