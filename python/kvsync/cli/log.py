"""`kvsync log`: show logged changes."""

from collections.abc import Mapping
from typing import Annotated

from kvsync import checks, inspection
from kvsync.cli.exitcodes import DONE
from kvsync.cli.json_fields import change_fields, expiry_text, name_fields, name_of, stamp_time
from kvsync.cli.options import Location, Option
from kvsync.cli.output import Output
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact
from kvsync.types import Change

__all__ = ["UNKNOWN_TIME", "log"]

UNKNOWN_TIME = f"{'time unknown':24}"
"""As wide as a time."""


ID_DIGITS = 16
"""A replica without a known name is shown by its id."""


def log(
    storage: Location,
    key: Annotated[str | None, Option(help="Show only this key.", show_default=False)] = None,
    /,
    *,
    output: Output = PLAIN,
) -> int:
    """Show the newest logged change of each key, or of one key, oldest first.

    Each line has the time of the change, the replica that made it, the
    operation with the size of the value, and the key.
    """
    with opened(storage) as one:
        found = checks.log(one, key)
        names = inspection.names(one)
        name = redact(one.name)
    output.result(
        {"storage": name, "changes": [change_fields(c) for c in found], "names": name_fields(names)}
        if output.json
        else {}
    )
    output.say_all(_line(change, names) for change in found)
    if not found:
        output.note(f"nothing is logged{'' if key is None else f' for {key!r}'} in {name}")
    return DONE


def _line(change: Change, names: Mapping[int, str]) -> str:
    time = stamp_time(change.stamp) or UNKNOWN_TIME
    did = "delete" if change.deletes else f"put {change.size:,} B"
    decided = " (decides a conflict)" if change.decided else ""
    inexact = " (time not exact)" if change.inexact else ""
    origin = f"{name_of(change.origin, names):{ID_DIGITS}}"
    return f"{time}  {origin}  {did:>14}  {change.key!r}{expiry_text(change)}{decided}{inexact}"
