"""`kvsync lost`: list, show and discard the values that lost a conflict."""

import base64
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from kvsync import losers
from kvsync.cli.confirm import confirmed
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.json_fields import lost_fields, stamp_time
from kvsync.cli.log import UNKNOWN_TIME
from kvsync.cli.options import FromId, Location, Option, flag
from kvsync.cli.output import Output, counted, first_of, write_bytes
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.errors import UsageError
from kvsync.index.lost import LostValue
from kvsync.run.keeping import find, kept
from kvsync.storages import redact
from kvsync.storages.contract import Storage

__all__ = ["lost"]

OUTPUT = "Write one value, byte by byte, to this file; - is standard output."


def lost(
    storage: Location,
    key: Annotated[str | None, Option(help="Only values of this key.", show_default=False)] = None,
    /,
    *,
    from_: FromId = None,
    file: Annotated[str | None, Option(name="--output", help=OUTPUT, leading_hyphen=True)] = None,
    discard: Annotated[bool, flag(help="Remove the values for good: those of KEY, or with --all of all keys.")] = False,
    all_: Annotated[bool, flag(name="--all", help="With --discard: the values of all keys.")] = False,
    yes: Annotated[bool, flag(help="Do not ask for confirmation.")] = False,
    output: Output = PLAIN,
) -> int:
    """List the values that lost a conflict and are kept in a storage; show or discard one.

    Each line has the id, the time of the change, the size and the key. With a
    KEY, and where standard output is not a terminal, prints the newest value of
    that key, byte by byte. `kvsync restore` puts a value back.
    """
    _check(key, from_, file, discard=discard, all_=all_)
    if output.json and file == "-":
        message = "--json and --output - both print on standard output; choose one, the JSON holds the value too"
        raise UsageError(message)
    with opened(storage) as one:
        name = redact(one.name)
        found = kept(one, key, from_)
        if discard:
            return _discard(one, name, list(map(_without_value, found)), output, yes=yes)
        if key is not None and (file is not None or not (output.json or output.quiet or sys.stdout.isatty())):
            return _show(find(one, key, from_), name, file or "-", output)
        return _list(name, key, found, output)


def _check(key: str | None, from_: str | None, file: str | None, *, discard: bool, all_: bool) -> None:
    """Refuse options that do not fit together.

    Raises:
        UsageError: they do not.
    """
    message = ""
    if discard and (key is None) != all_:
        message = "--discard needs a KEY or --all, and not both"
    elif all_ and not discard:
        message = "--all goes with --discard; without both, all values are listed"
    elif key is None and (file is not None or from_ is not None):
        message = f"{'--output' if file is not None else '--from'} needs a KEY"
    elif discard and file is not None:
        message = "choose --output or --discard, not both"
    if message:
        raise UsageError(message)


def _list(name: str, key: str | None, found: Iterable[LostValue], output: Output) -> int:
    count, fields = 0, []
    for value in found:
        count += 1
        output.say(_line(value, len(value.value)))
        if output.json:
            fields.append(lost_fields(value) | ({} if key is None else _content(value)))
    output.result({"storage": name, "lost": fields})
    if not count:
        output.note(f"no value that lost a conflict is kept{'' if key is None else f' for {key!r}'} in {name}")
    return DONE


def _content(value: LostValue) -> dict[str, object]:
    return {"value_base64": base64.b64encode(value.value).decode()}


def _line(value: LostValue, size: int) -> str:
    return f"{value.id}  {stamp_time(value.stamp) or UNKNOWN_TIME}  {size:>10,} B  {value.key!r}"


def _without_value(value: LostValue) -> tuple[LostValue, str]:
    """Return what names a value, with its line: the values of all keys may not fit into memory."""
    return value._replace(value=b""), _line(value, len(value.value))


def _show(value: LostValue, name: str, file: str, output: Output) -> int:
    if file == "-":
        write_bytes(value.value)
        return DONE
    try:
        Path(file).write_bytes(value.value)
    except OSError as error:
        message = f"cannot write {file}: {error.strerror or error}"
        raise UsageError(message) from None
    output.result({"storage": name, "lost": [lost_fields(value)], "output": file})
    output.say(f"{name}: {counted(len(value.value), 'byte')} of {value.key!r} written to {file}")
    return DONE


def _discard(storage: Storage, name: str, found: Sequence[tuple[LostValue, str]], output: Output, *, yes: bool) -> int:
    if found and not yes and not _is_meant(name, [line for _, line in found]):
        output.warn(f"{name}: nothing was removed")
        return FAILED
    count = losers.discard(storage, [value for value, _ in found]) if found else 0
    output.result({"storage": name, "discarded": count})
    output.say(f"{name}: {counted(count, 'value')} removed")
    return DONE


def _is_meant(name: str, lines: Sequence[str]) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: there is no terminal.
    """
    what = counted(len(lines), "value")
    shown = [f"{name}:", *first_of(lines, len(lines))]
    return confirmed(name, shown, f"Remove {what} for good?", otherwise=f"pass --yes to remove {what} for good")
