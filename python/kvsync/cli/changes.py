"""Read a change file: JSON lines, one change per line (docs/cli.md)."""

from __future__ import annotations

import base64
import binascii
import io
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from kvsync.errors import UsageError
from kvsync.expiry import expires_ms
from kvsync.native import check_key
from kvsync.types import Delete, Put

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_changes"]

FIELDS = {"put": {"op", "key", "value", "value_base64", "expires"}, "delete": {"op", "key"}}


class _Malformed(ValueError):  # noqa: N818 - never leaves this module
    """A line is not a change; the text says why."""


def read_changes(path: str | None) -> list[Put | Delete]:
    """Return the changes in a file; `-` is standard input, None means no changes.

    Raises:
        UsageError: the file cannot be read, or a line is not a change; the message names file and line.
    """
    if path is None:
        return []
    name = "standard input" if path == "-" else path
    changes: list[Put | Delete] = []
    with _opened(path, name) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                changes.append(_change(line))
            except _Malformed as error:
                _refuse(f"{name}, line {number}: {error}")
            except UsageError as error:
                _refuse(f"{name}, line {number}: {error.message}", error.key)
    return changes


@contextmanager
def _opened(path: str, name: str) -> Iterator[BinaryIO]:
    try:
        if path == "-":
            yield _standard_input()
            return
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        _refuse(f"cannot read the changes in {name}: {error.strerror or error}")


def _standard_input() -> BinaryIO:
    if hasattr(sys.stdin, "buffer"):
        return sys.stdin.buffer
    return io.BytesIO(sys.stdin.read().encode())


def _refuse(message: str, key: str | None = None) -> NoReturn:
    raise UsageError(message, key=key) from None


def _change(line: bytes) -> Put | Delete:
    fields = _fields(line)
    op, key = fields.get("op"), fields.get("key")
    if not isinstance(op, str) or op not in FIELDS:
        message = f'"op" must be "put" or "delete", not {json.dumps(op)}'
        raise _Malformed(message)
    if not isinstance(key, str):
        message = '"key" is required, and must be a string'
        raise _Malformed(message)
    unknown = sorted(fields.keys() - FIELDS[op])
    if unknown:
        message = f"unknown field {json.dumps(unknown[0])} of a {op}"
        raise _Malformed(message)
    check_key(key)
    return _put(key, fields) if op == "put" else Delete(key)


def _put(key: str, fields: dict[str, object]) -> Put:
    expires = fields.get("expires")
    if expires is None:
        return Put(key, _value(fields))
    if not isinstance(expires, int | float) or isinstance(expires, bool):
        message = f'"expires" must be a number of seconds since 1970, not {json.dumps(expires)}'
        raise _Malformed(message)
    put = Put(key, _value(fields), expires)
    expires_ms(put)
    return put


def _fields(line: bytes) -> dict[str, object]:
    try:
        fields = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_once)
    except UnicodeDecodeError:
        message = "not UTF-8"
        raise _Malformed(message) from None
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg} at column {error.colno}"
        raise _Malformed(message) from None
    except RecursionError:
        message = "not JSON: nested too deeply"
        raise _Malformed(message) from None
    if not isinstance(fields, dict):
        message = 'not a JSON object such as {"op":"put","key":"user/1","value":"Ada"}'
        raise _Malformed(message)
    return fields


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        message = "a field occurs twice"
        raise _Malformed(message)
    return fields


def _value(fields: dict[str, object]) -> bytes | None:
    if "value" in fields and "value_base64" in fields:
        message = 'give "value" or "value_base64", not both'
        raise _Malformed(message)
    try:
        if "value" in fields:
            return _text(fields["value"]).encode()
        if "value_base64" in fields:
            return base64.b64decode(_text(fields["value_base64"]), validate=True)
    except UnicodeEncodeError:
        message = '"value" contains half a surrogate pair, which is not valid text'
        raise _Malformed(message) from None
    except (binascii.Error, ValueError) as error:
        if isinstance(error, _Malformed):
            raise
        message = f'"value_base64" is not base64: {error}'
        raise _Malformed(message) from None
    return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = "a value must be a string; leave it out if it is already stored"
        raise _Malformed(message)
    return value
