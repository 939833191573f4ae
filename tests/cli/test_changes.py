"""Change files, valid and invalid."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import pytest

from kvsync import Delete, Put, UsageError
from kvsync.cli.changes import read_changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ended


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], str]:
    """Return a function that writes a change file and returns its path."""

    def write(content: bytes) -> str:
        (tmp_path / "changes").write_bytes(content)
        return str(tmp_path / "changes")

    return write


def test_every_kind_of_change(written: Callable[[bytes], str]) -> None:
    lines = [
        {"op": "put", "key": "text", "value": "é\n"},
        {"op": "put", "key": "bytes", "value_base64": base64.b64encode(bytes(range(256))).decode()},
        {"op": "put", "key": "stored"},
        {"op": "put", "key": "empty", "value": ""},
        {"op": "delete", "key": "k \x1b"},
    ]
    content = "\ufeff" + "\r\n\r\n".join(json.dumps(line) for line in lines)
    assert read_changes(written(content.encode())) == [
        Put("text", "é\n".encode()),
        Put("bytes", bytes(range(256))),
        Put("stored"),
        Put("empty", b""),
        Delete("k \x1b"),
    ]


def test_no_file_and_an_empty_one(written: Callable[[bytes], str]) -> None:
    assert read_changes(None) == []
    assert read_changes(written(b"\n")) == []


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"op":"delete","key":"a"}'))
    assert read_changes("-") == [Delete("a")]


BAD = {
    b"{": "not JSON",
    b"[" * 100_000: "not JSON",
    b"[]": "not a JSON object",
    b"\xff": "not UTF-8",
    b"{}": '"op" must be',
    b'{"op":"move","key":"a"}': '"op" must be "put" or "delete", not "move"',
    b'{"op":["put"],"key":"a"}': '"op" must be',
    b'{"op":"put"}': '"key" is required, and must be a string',
    b'{"op":"put","key":1}': '"key" is required, and must be a string',
    b'{"op":"put","key":".kvsync/lease","value":""}': "reserved",
    b'{"op":"put","key":"\\ud800","value":""}': "key",
    b'{"op":"put","key":"a","valeu":"1"}': 'unknown field "valeu" of a put',
    b'{"op":"delete","key":"a","value":"1"}': 'unknown field "value" of a delete',
    b'{"op":"put","key":"a","value":"1","value_base64":""}': "not both",
    b'{"op":"put","key":"a","value":1}': "must be a string",
    b'{"op":"put","key":"a","value":null}': "must be a string",
    b'{"op":"put","key":"a","value":"\\ud800"}': "surrogate",
    b'{"op":"put","key":"a","value_base64":"???"}': "not base64",
    b'{"op":"put","key":"a","value_base64":"\xc3\xa9"}': "not base64",
    b'{"op":"put","key":"a","key":"b"}': "occurs twice",
}


@pytest.mark.parametrize(("line", "why"), BAD.items(), ids=[line[:40].decode("latin-1") for line in BAD])
def test_a_malformed_line_is_named(line: bytes, why: str, written: Callable[[bytes], str]) -> None:
    path = written(b'{"op":"put","key":"good"}\n\n' + line + b"\n")
    with pytest.raises(UsageError) as caught:
        read_changes(path)
    assert caught.value.message.startswith(f"{path}, line 3: ")
    assert why in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UsageError, match="cannot read the changes in"):
            read_changes(str(path))


def test_a_malformed_line_ends_the_command_before_anything_is_written(
    run: Callable[..., Ended], written: Callable[[bytes], str], pair: tuple[str, str], tmp_path: Path
) -> None:
    ended = run("sync", *pair, "--changes", written(b'{"op":"put","key":"x","value":"1"}\nnonsense\n'))
    assert ended.code == 2
    assert ended.out == ""
    assert "line 2: not JSON" in ended.err
    assert not (tmp_path / "app.db").exists()
    assert not (tmp_path / "notes" / ".kvsync").exists()
