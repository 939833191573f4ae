"""Open the storages that a call names; refuse what does not exist, what is a slip, and what would sync itself."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from kvsync.errors import KvsyncError, StorageError, UsageError
from kvsync.index.objects import LEASE, MANIFEST
from kvsync.storages import open_storage
from kvsync.storages.contract import has_dry_probe
from kvsync.storages.overlap import left_out, separated
from kvsync.storages.read_only import ReadOnlyStorage
from kvsync.storages.slips import likely_meaning
from kvsync.storages.url import scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvsync.storages import Target
    from kvsync.storages.contract import Storage
    from kvsync.types import Delete, Put

__all__ = [
    "Create",
    "Opened",
    "check_create",
    "check_slip",
    "may_make",
    "opened",
    "opened_both",
    "opened_pair",
    "slip_of",
    "unmade",
]

Create: TypeAlias = Literal["auto", "target", "both", "none"]
"""Which storage of a run may be new: "auto" means the target, and the source if changes are given, with values."""


PATIENCE_SECONDS = 1.0
"""How long to wait for what the other storage says, where one cannot be opened."""

BOTH = ' (in Python also create="both")'


class Opened(NamedTuple):
    """The two storages of a run, open.

    Attributes:
        source, target: the storages.
        unmade: {side: what did not exist when it was opened, in words}.
    """

    source: Storage
    target: Storage
    unmade: dict[str, str]

    @property
    def made(self) -> dict[str, str]:
        """The part of `unmade` that exists now."""
        sides = {"source": self.source, "target": self.target}
        return {side: what for side, what in self.unmade.items() if not unmade(sides[side])}

    @property
    def notes(self) -> list[str]:
        """What is special about this pair, one sentence each."""
        return [
            f"{', '.join(map(repr, keys))} in {storage.name} belong to the other storage, and are left out"
            for storage in (self.source, self.target)
            if (keys := left_out(storage))
        ]


def may_make(changes: Sequence[Put | Delete]) -> bool:
    """Return whether changes may go to a storage that does not exist: there are some, and none is stored there."""
    return bool(changes) and (
        None not in [change.value for change in changes]
        or all(change.deletes or change.value is not None for change in changes)
    )


def check_create(create: Create) -> None:
    """Check the option `create`.

    Raises:
        UsageError: it is none of its values.
    """
    if create not in ("auto", "target", "both", "none"):
        message = f"unknown create {create!r}; choose 'auto', 'target', 'both' or 'none'"
        raise UsageError(message)


@contextmanager
def opened(target: Target, *, new: bool = False) -> Iterator[Storage]:
    """Open a storage, which has to exist unless it may be `new`; close it at the end if it was opened here.

    Raises:
        UsageError: `target` does not name a storage, or is a slip.
        StorageError: it does not exist.
    """
    ours: list[Storage] = []
    try:
        if new:
            yield _open_new(target, ours)
        else:
            storage = _open(target, ours, new=False)
            _check_unmade(target, storage, unmade(storage), new=False)
            yield storage
    finally:
        _close(ours)


@contextmanager
def opened_pair(
    source: Target, target: Target, create: Create, *, given: bool, read_only: bool = False
) -> Iterator[Opened]:
    """Open the two storages of a run, and close them at the end if they were opened here.

    Args:
        source: the source.
        target: the target.
        create: which of them may be new.
        given: whether the call gives changes that make the source.
        read_only: whether nothing may be written to the source.

    Raises:
        UsageError: one is named wrongly.
        SameStorageError: they are one storage, or one is within the other.
        StorageError: one does not exist and may not be new.
    """
    check_create(create)
    new_source = create == "both" or (create == "auto" and given)
    with opened_both(source, target, new_source=new_source, new_target=create != "none", way_out=BOTH) as pair:
        one, other = separated(pair.source, pair.target)
        source_storage: Storage = ReadOnlyStorage(one, other) if read_only else one
        yield Opened(source_storage, other, pair.unmade)


@contextmanager
def opened_both(
    source: Target, target: Target, *, new_source: bool, new_target: bool, way_out: str = ""
) -> Iterator[Opened]:
    """Open two storages, two servers at the same time; close them at the end if they were opened here.

    Raises:
        UsageError: one is named wrongly.
        StorageError: one does not exist and may not be new, whose message ends with the `way_out`.
    """
    ours: list[Storage] = []
    try:
        one = _open(source, ours, new=new_source)
        other = _open(target, ours, new=new_target)
        no_source, no_target = _both_unmade(one, other)
        _check_unmade(source, one, no_source, new=new_source, way_out=way_out)
        _check_unmade(target, other, no_target, new=new_target, way_out=way_out)
        absent = {"source": no_source, "target": no_target}
        yield Opened(one, other, {side: what for side, what in absent.items() if what})
    finally:
        _close(ours)


def _open(target: Target, ours: list[Storage], *, new: bool) -> Storage:
    """Open a storage, and add it to `ours` if it is to be closed."""
    storage, owned = open_storage(target, create=new)
    if owned:
        ours.append(storage)
    return storage


def _check_unmade(target: Target, storage: Storage, what: str, *, new: bool, way_out: str = "") -> None:
    """Refuse a storage of which something does not exist, if it may not be new or its name is a slip."""
    if not what:
        return
    check_slip(target)
    if not new:
        message = f"{what} does not exist: check the spelling, or create or mount it{way_out}"
        raise StorageError(message, storage=storage.name)


def _open_new(target: Target, ours: list[Storage]) -> Storage:
    """Open a storage that need not exist; a server that cannot be reached is told by whoever uses it."""
    check_slip(target)
    storage = _open(target, ours, new=True)
    with suppress(StorageError):
        unmade(storage)  # finds a table that is named in other letters
    return storage


def _close(storages: list[Storage]) -> None:
    """Close all storages, the last one first, also if closing one of them fails."""
    if storages:
        try:
            storages.pop().close()
        finally:
            _close(storages)


def unmade(storage: Storage) -> str:
    """Return what does not exist yet of a storage, in words for people; empty if it exists, or nobody can tell."""
    what = storage.unmade() if has_dry_probe(storage) else ""
    # Where no value was ever written, there may be an index without a table of values.
    return what if what and not _has_index(storage) else ""


class _Question(threading.Thread):
    """Asks a storage what of it does not exist, in a thread of its own that nobody has to wait for."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(name="kvsync-open", daemon=True)
        self._storage = storage
        self._what = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        """Ask."""
        try:
            self._what = unmade(self._storage)
        except BaseException as error:  # noqa: BLE001 - the other thread raises it
            self.error = error

    def answer(self) -> str:
        """Return the answer, when it is there."""
        self.join()
        if self.error is not None:
            raise self.error
        return self._what


def _both_unmade(one: Storage, other: Storage) -> tuple[str, str]:
    """Return what does not exist of either storage; connect to two servers at the same time.

    Raises:
        KvsyncError: one of them cannot be reached; if neither can, the message says so of both.
    """
    if {one.capabilities.distance, other.capabilities.distance} != {"network"}:
        return unmade(one), unmade(other)
    question = _Question(other)
    question.start()
    try:
        what = unmade(one)
    except KvsyncError as error:
        question.join(PATIENCE_SECONDS)
        if question.error is not None:
            error.message += f"; and {question.error}"
        raise
    return what, question.answer()


def _has_index(storage: Storage) -> bool:
    try:
        # A first run that was killed may leave no more than its lease, which `kvsync unlock` has to find.
        return any(storage.load(name) is not None for name in (MANIFEST, LEASE))
    except StorageError:  # a folder that has to exist, and does not
        return False


def check_slip(target: Target) -> None:
    """Refuse to make a folder of a name that hardly means one.

    Raises:
        UsageError: nothing of that name exists, and it more likely means something else.
    """
    if (slip := slip_of(target)) is not None:
        message = f"{slip}; if it is meant to be a folder, make that first"
        raise UsageError(message)


def slip_of(target: Target) -> str | None:
    """Return why a path more likely means something else than a folder to be made; None if it does not, or exists."""
    if not isinstance(target, str | os.PathLike) or (isinstance(target, str) and scheme_of(target)):
        return None
    path = os.fspath(target)
    if not isinstance(path, str) or "\0" in path or os.path.lexists(path) or not (meaning := likely_meaning(path)):
        return None
    shown = repr(path) if "@" not in path else "of this name"  # what comes before an "@" may be a password
    return f"there is no folder {shown}, and {meaning}"
