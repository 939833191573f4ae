"""Arguments and options that several commands share."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NamedTuple, TypeAlias

from kvsync.errors import UsageError
from kvsync.types import Direction

__all__ = [
    "BudgetOptions",
    "ChangeOptions",
    "FromId",
    "LeaseOptions",
    "Location",
    "Option",
    "RunOptions",
    "Source",
    "Target",
    "TombstoneGrace",
    "WaitSeconds",
    "flag",
]


class Option(NamedTuple):
    """What is to be known of an argument or option beside its name and its type.

    Attributes:
        help: what it is for.
        name: how it is written, if not as the parameter is called.
        negative: how a flag is written to turn it off.
        show_default: whether the help shows the default.
        leading_hyphen: whether its value may begin with a hyphen.
        short: how it is written in one letter.
    """

    help: str
    name: str | None = None
    negative: str = ""
    show_default: bool = True
    leading_hyphen: bool = False
    short: str | None = None


flag = partial(Option, show_default=False)
"""An option without a value."""

Source: TypeAlias = Annotated[str, Option(help="One storage: a folder, a URL, or a name of kvsync.toml.")]
Target: TypeAlias = Annotated[str, Option(help="The other storage.")]
Location: TypeAlias = Annotated[str, Option(help="A folder, a URL, or a name of kvsync.toml.")]

FromId: TypeAlias = Annotated[
    str | None,
    Option(
        name="--from",
        help="Id of the value, as `kvsync lost` lists it; its beginning is enough. Default: the newest of the key.",
        show_default=False,
    ),
]
TombstoneGrace: TypeAlias = Annotated[str, Option(help="How long deletes stay logged that all replicas have.")]
WaitSeconds: TypeAlias = Annotated[float, Option(help="How long to wait for a lease that somebody else holds.")]

SCAN = "Find what changed since the last scan. Default unless --changes is given."
FULL = "Scan everything, even in a storage that is tracked."
CHANGES = "File of changes to make in the (source) storage, as JSON lines; - is standard input."
MAX_DELETE = "Stop if a scan finds more than N keys, or P%, deleted or overwritten. Default: 50%, but at least 3."
MAX_OVERWRITE = "Stop if more than N values, or P%, would be overwritten in a storage."
MAX_BYTES = "Stop if more bytes of values would move: a number, or one with a unit such as 10MB."
MAX_CONFLICTS = "Stop if both sides have changed more than N keys, or P%."
PUSH = "Only the target gets what the source has; what the source misses is reported."
PULL = "Only the source gets what the target has; what the target misses is reported."
MIRROR = "Make the target an image of the source: what only the target has or changed goes, and is kept as lost."
READ_ONLY = "With --push or --mirror: write nothing to the source, not even an index; that is kept in the target."
INCLUDE = "Leave out all keys but those that match a pattern, in the syntax of gitignore; may be repeated."
EXCLUDE = "Leave out keys that match a pattern; may be repeated. A folder may name some in a file .kvsyncignore."
CONFLICT = "Which value wins if both sides changed a key."
TRUST = "Do not read a value whose server tells the same MD5 as that of the other side (etag); for first contacts."
GUARD = "Without a scan: compare values before overwriting them (check), or trust that nobody else wrote (none)."


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """Where changes come from.

    Attributes:
        scan: whether to scan; None means yes unless a change file is given.
        full: whether to scan everything in a tracked storage, too.
        changes: a file of changes, `-` for standard input.
        max_delete: how many keys a scan may find deleted or overwritten.
    """

    scan: Annotated[bool | None, Option(help=SCAN, negative="--no-scan")] = None
    full: Annotated[bool, flag(help=FULL)] = False
    changes: Annotated[str | None, Option(help=CHANGES, leading_hyphen=True)] = None
    max_delete: Annotated[str | None, Option(help=MAX_DELETE, leading_hyphen=True)] = None

    @property
    def scans(self) -> bool:
        """Whether to scan."""
        return self.changes is None if self.scan is None else self.scan


@dataclass(frozen=True, slots=True)
class RunOptions(ChangeOptions):
    """What decides the outcome of a run over two storages.

    Attributes:
        push: only the target gets what the other side has.
        pull: only the source does.
        mirror: the target becomes an image of the source.
        read_only_source: nothing is written to the source.
        include: patterns of keys; all others are left out.
        exclude: patterns of keys to leave out.
        conflict: name of the policy.
        guard: whether to compare values before overwriting them.
        trust: whether to believe the MD5 of a value that a server tells.
        max_overwrite: how many values a run may overwrite.
        max_bytes: how many bytes it may move.
        max_conflicts: how many conflicts it may decide.
    """

    push: Annotated[bool, flag(help=PUSH)] = False
    pull: Annotated[bool, flag(help=PULL)] = False
    mirror: Annotated[bool, flag(help=MIRROR)] = False
    read_only_source: Annotated[bool, flag(help=READ_ONLY)] = False
    include: Annotated[list[str] | None, Option(help=INCLUDE, leading_hyphen=True)] = None
    exclude: Annotated[list[str] | None, Option(help=EXCLUDE, leading_hyphen=True)] = None
    conflict: Annotated[Literal["latest", "source", "target", "keep-both", "fail"], Option(help=CONFLICT)] = "latest"
    guard: Annotated[Literal["none", "check"], Option(help=GUARD)] = "none"
    trust: Annotated[Literal["none", "etag"], Option(help=TRUST)] = "none"
    max_overwrite: Annotated[str | None, Option(help=MAX_OVERWRITE, leading_hyphen=True)] = None
    max_bytes: Annotated[str | None, Option(help=MAX_BYTES, leading_hyphen=True)] = None
    max_conflicts: Annotated[str | None, Option(help=MAX_CONFLICTS, leading_hyphen=True)] = None

    @property
    def direction(self) -> Direction:
        """Which way changes move.

        Raises:
            UsageError: two ways are given.
        """
        given: dict[Direction, bool] = {"push": self.push, "pull": self.pull, "mirror": self.mirror}
        names = [name for name, is_given in given.items() if is_given]
        if len(names) > 1:
            message = f"{' and '.join(f'--{name}' for name in names)} exclude each other; give one of them"
            raise UsageError(message)
        return names[0] if names else "both"


@dataclass(frozen=True, slots=True)
class BudgetOptions:
    """Budgets of a run, in place of those that a file says.

    Attributes:
        max_delete: how many keys a scan may find deleted or overwritten.
        max_overwrite: how many values a run may overwrite.
        max_bytes: how many bytes it may move.
        max_conflicts: how many conflicts it may decide.
    """

    max_delete: Annotated[str | None, Option(help=MAX_DELETE, leading_hyphen=True)] = None
    max_overwrite: Annotated[str | None, Option(help=MAX_OVERWRITE, leading_hyphen=True)] = None
    max_bytes: Annotated[str | None, Option(help=MAX_BYTES, leading_hyphen=True)] = None
    max_conflicts: Annotated[str | None, Option(help=MAX_CONFLICTS, leading_hyphen=True)] = None


@dataclass(frozen=True, slots=True)
class LeaseOptions:
    """How leases are held and waited for.

    Attributes:
        lease_seconds: how long a lease lasts without renewal.
        wait_seconds: how long to wait for a lease that somebody else holds.
    """

    lease_seconds: Annotated[float, Option(help="How long a lease lasts without renewal.")] = 60.0
    wait_seconds: WaitSeconds = 10.0
