"""Arguments and options that several commands share."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

__all__ = ["ChangeOptions", "LeaseOptions", "Place", "RunOptions", "Source", "Target", "flag"]

flag = partial(Parameter, negative="", show_default=False)
"""An option without a value and without an opposite."""

Source: TypeAlias = Annotated[str, Parameter(help="One storage: a folder or a URL.")]
Target: TypeAlias = Annotated[str, Parameter(help="The other storage.")]
Place: TypeAlias = Annotated[str, Parameter(help="A folder or a URL.")]

SCAN = "Look for changes in the values. The default, unless --changes is given."
CHANGES = "File of changes, JSON lines, to make in the (source) storage; - is standard input."
MAX_DELETE = "Stop if a scan finds more keys deleted or overwritten: N or P%. Default: half, or up to 3."
CONFLICT = "Whose value wins where both sides changed a key."
GUARD = "Without a scan: look before overwriting (check), or trust that nobody else wrote."


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """Where changes come from.

    Attributes:
        scan: whether to look for changes; None: unless a change file is given.
        changes: a file of changes, `-` for standard input.
        max_delete: how much a scan may find deleted or overwritten.
    """

    scan: Annotated[bool | None, Parameter(help=SCAN, negative="--no-scan")] = None
    changes: Annotated[str | None, Parameter(help=CHANGES, allow_leading_hyphen=True)] = None
    max_delete: Annotated[str | None, Parameter(help=MAX_DELETE, allow_leading_hyphen=True)] = None

    @property
    def scans(self) -> bool:
        """Whether to look for changes."""
        return self.changes is None if self.scan is None else self.scan


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RunOptions(ChangeOptions):
    """What decides the outcome of a run over two storages.

    Attributes:
        conflict: name of the policy.
        guard: whether values that a run overwrites are looked at first.
    """

    conflict: Annotated[Literal["latest", "source", "target", "keep-both", "fail"], Parameter(help=CONFLICT)] = "latest"
    guard: Annotated[Literal["none", "check"], Parameter(help=GUARD)] = "none"


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """How leases are held and waited for.

    Attributes:
        lease_seconds: life of a lease between renewals.
        wait_seconds: how long to wait for a lease that is taken.
    """

    lease_seconds: Annotated[float, Parameter(help="Life of a lease between renewals.")] = 60.0
    wait_seconds: Annotated[float, Parameter(help="How long to wait for a lease that is taken.")] = 10.0
