"""Arguments and options that several commands share."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

__all__ = [
    "ChangeOptions",
    "FromId",
    "LeaseOptions",
    "Location",
    "RunOptions",
    "Source",
    "Target",
    "TombstoneGrace",
    "WaitSeconds",
    "flag",
]

flag = partial(Parameter, negative="", show_default=False)
"""An option without a value, and without a `--no-` form."""

Source: TypeAlias = Annotated[str, Parameter(help="One storage: a folder or a URL.")]
Target: TypeAlias = Annotated[str, Parameter(help="The other storage.")]
Location: TypeAlias = Annotated[str, Parameter(help="A folder or a URL.")]

FromId: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--from",
        help="Id of the value, as `kvsync lost` lists it; its beginning is enough. Default: the newest of the key.",
        show_default=False,
    ),
]
TombstoneGrace: TypeAlias = Annotated[str, Parameter(help="How long deletes stay logged that all replicas have.")]
WaitSeconds: TypeAlias = Annotated[float, Parameter(help="How long to wait for a lease that somebody else holds.")]

SCAN = "Find what changed since the last scan. Default unless --changes is given."
CHANGES = "File of changes to make in the (source) storage, as JSON lines; - is standard input."
MAX_DELETE = "Stop if a scan finds more than N keys, or P%, deleted or overwritten. Default: 50%, but at least 3."
CONFLICT = "Which value wins if both sides changed a key."
GUARD = "Without a scan: compare values before overwriting them (check), or trust that nobody else wrote (none)."


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """Where changes come from.

    Attributes:
        scan: whether to scan; None means yes unless a change file is given.
        changes: a file of changes, `-` for standard input.
        max_delete: how many keys a scan may find deleted or overwritten.
    """

    scan: Annotated[bool | None, Parameter(help=SCAN, negative="--no-scan")] = None
    changes: Annotated[str | None, Parameter(help=CHANGES, allow_leading_hyphen=True)] = None
    max_delete: Annotated[str | None, Parameter(help=MAX_DELETE, allow_leading_hyphen=True)] = None

    @property
    def scans(self) -> bool:
        """Whether to scan."""
        return self.changes is None if self.scan is None else self.scan


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RunOptions(ChangeOptions):
    """What decides the outcome of a run over two storages.

    Attributes:
        conflict: name of the policy.
        guard: whether to compare values before overwriting them.
    """

    conflict: Annotated[Literal["latest", "source", "target", "keep-both", "fail"], Parameter(help=CONFLICT)] = "latest"
    guard: Annotated[Literal["none", "check"], Parameter(help=GUARD)] = "none"


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """How leases are held and waited for.

    Attributes:
        lease_seconds: how long a lease lasts without renewal.
        wait_seconds: how long to wait for a lease that somebody else holds.
    """

    lease_seconds: Annotated[float, Parameter(help="How long a lease lasts without renewal.")] = 60.0
    wait_seconds: WaitSeconds = 10.0
