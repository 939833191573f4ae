"""The command line application and its commands."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from cyclopts import App

from kvsync.cli.accept import accept
from kvsync.cli.commit import commit
from kvsync.cli.compact import compact
from kvsync.cli.demo import demo
from kvsync.cli.doctor import doctor
from kvsync.cli.forget import forget
from kvsync.cli.log import log
from kvsync.cli.lost import lost
from kvsync.cli.peers import peers
from kvsync.cli.plan import plan
from kvsync.cli.restore import restore
from kvsync.cli.status import status
from kvsync.cli.storages import storages
from kvsync.cli.sync import sync
from kvsync.cli.unlock import unlock
from kvsync.cli.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app"]


def _version() -> str:
    try:
        return f"kvsync {version('kvsync')}"
    except PackageNotFoundError:
        return "kvsync (not installed, running from a source tree)"


app = App(
    name="kvsync",
    help="Make two key-value storages equal, both ways, moving only what changed.\n\n"
    "A storage is the path of a folder, or a URL such as sqlite:///app.db (relative) or sqlite:////var/app.db "
    "(absolute). `kvsync storages` lists all kinds.",
    help_epilogue="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 conflicts left, 4 locked, 5 stopped by --max-delete.",
    help_format="plaintext",
    version=_version,
    suppress_keyboard_interrupt=False,
)
_COMMANDS: tuple[Callable[..., int], ...] = (
    *(sync, plan, verify, status, doctor, log, lost, restore),
    *(peers, forget, accept),
    *(commit, compact, unlock, storages, demo),
)
_ARGUMENTS = {log: "STORAGE [KEY]", lost: "STORAGE [KEY]", verify: "SOURCE [TARGET]", accept: "STORAGE [KEY...]"}
"""The arguments of commands with some that may be left out, which the help would call `[ARGS]`."""

for _position, _command in enumerate(_COMMANDS):
    _name = _command.__name__
    _usage = f"Usage: kvsync {_name} [OPTIONS] {_ARGUMENTS[_command]}" if _command in _ARGUMENTS else None
    app.command(_command, sort_key=_position, usage=_usage)
