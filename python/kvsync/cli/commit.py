"""`kvsync commit`: write and log changes in one storage."""

from kvsync.cli.changes import read_changes
from kvsync.cli.left_behind import left_behind
from kvsync.cli.options import ChangeOptions, LeaseOptions, Location
from kvsync.cli.output import Output, counted, first_of
from kvsync.cli.sync import NO_LEASE, PLAIN
from kvsync.cli.targets import opened
from kvsync.environment import Environment
from kvsync.opening import may_make
from kvsync.options import Options
from kvsync.run.steps import commit_and_look
from kvsync.storages import redact
from kvsync.storages.wording import shown

__all__ = ["commit"]

NO_CHANGES = ChangeOptions()

DOUBTED = (
    "  check      {values} may be older than deletes that are no longer remembered; delete what was deleted once more"
)


def commit(
    storage: Location,
    /,
    *,
    what: ChangeOptions = NO_CHANGES,
    lease: LeaseOptions = NO_LEASE,
    output: Output = PLAIN,
) -> int:
    """Write and log changes in one storage; a later sync moves them."""
    changes = read_changes(what.changes)
    options = Options(
        scan=what.scans,
        full=what.full,
        max_delete=what.max_delete,
        lease_seconds=lease.lease_seconds,
        wait_seconds=lease.wait_seconds,
    )
    with opened(storage, new=may_make(changes)) as one:
        count, unread, doubted = commit_and_look(one, changes, options, Environment())
        name = redact(one.name)
    unreadable = [{"key": key, "reason": redact(reason)} for key, reason in unread.items()]
    fields = {"storage": name, "committed": count, "unreadable": unreadable, "maybe_deleted": doubted}
    output.result(fields)
    output.say(f"{name}: {counted(count, 'change')} logged")
    if doubted:
        keys = first_of((f"             {key!r}" for key in doubted), len(doubted))
        output.alarm_all([DOUBTED.format(values=counted(len(doubted), "value")), *keys], title=name)
    lines = (f"  unreadable {shown(key)}: {redact(reason)}" for key, reason in unread.items())
    output.alarm_all(first_of(lines, len(unread)), title=name)
    return left_behind(output, [], unread)
