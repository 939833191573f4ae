"""`kvsync commit`: write and log changes in one storage."""

from kvsync import api
from kvsync.cli.changes import read_changes
from kvsync.cli.exitcodes import DONE
from kvsync.cli.options import ChangeOptions, LeaseOptions, Location
from kvsync.cli.output import Output, counted
from kvsync.cli.sync import NO_LEASE, PLAIN
from kvsync.cli.targets import opened
from kvsync.storages import redact

__all__ = ["commit"]

NO_CHANGES = ChangeOptions()


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
    with opened(storage, new=bool(changes)) as one:
        count = api.commit(
            one,
            changes,
            scan=what.scans,
            max_delete=what.max_delete,
            lease_seconds=lease.lease_seconds,
            wait_seconds=lease.wait_seconds,
        )
        name = redact(one.name)
    output.result({"storage": name, "committed": count})
    output.say(f"{name}: {counted(count, 'change')} logged")
    return DONE
