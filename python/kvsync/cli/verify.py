"""`kvsync verify`: compare all values of two storages."""

from collections.abc import Iterator

from kvsync import api, inspection
from kvsync.cli.exitcodes import DONE, FAILED
from kvsync.cli.json_fields import key_fields
from kvsync.cli.left_behind import left_lines
from kvsync.cli.options import Source, Target
from kvsync.cli.output import Output, counted, first_of
from kvsync.cli.sync import PLAIN
from kvsync.cli.targets import opened_pair
from kvsync.storages import redact
from kvsync.storages.wording import shown

__all__ = ["verify"]


def verify(source: Source, target: Target, /, *, output: Output = PLAIN) -> int:
    """Compare all values of two storages, and each storage with its own log; exit 1 if the two differ.

    Reads everything, writes nothing.
    """
    with opened_pair(source, target) as (one, other):
        found = api.verify(one, other)
        names = redact(one.name), redact(other.name)
    output.result(_fields(found, names))
    title = " <-> ".join(names)
    output.say(title)
    if found.equal:
        output.say_all(_lines(found))
        return DONE
    output.alarm_all(_lines(found), title=title)
    return FAILED


def _fields(found: inspection.Verification, names: tuple[str, str]) -> dict[str, object]:
    return {
        "source": names[0],
        "target": names[1],
        "equal": found.equal,
        "same": found.same,
        "only_source": found.only_source,
        "only_target": found.only_target,
        "different": found.different,
        "unreadable": [key_fields(unreadable) for unreadable in found.unreadable],
        "expired": found.expired,
        "unlogged": {redact(name): keys for name, keys in found.unlogged.items()},
    }


def _lines(found: inspection.Verification) -> Iterator[str]:
    same = f"{counted(found.same, 'key')} with the same value"
    yield f"  equal: {same}" if found.equal else f"  NOT EQUAL, but for {same}"
    for title, keys in (
        ("only in the source", found.only_source),
        ("only in the target", found.only_target),
        ("different", found.different),
        ("expired, but still stored on one side", found.expired),
    ):
        if keys:
            yield f"  {title}: {counted(len(keys), 'key')}"
            yield from first_of((f"    {shown(key)}" for key in keys), len(keys))
    yield from left_lines([], found.unreadable)
    for name, keys in found.unlogged.items():
        if keys:
            yield f"  {redact(name)}: {counted(len(keys), 'key')} changed since the last run"
