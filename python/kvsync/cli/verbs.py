"""The verbs: `kvsync VERB`. Each is a function in the module of its name, which is imported only if it is called."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["VERBS", "function_of", "version_text"]

VERBS = {
    "sync": "SOURCE TARGET [STORAGE...]",
    "plan": "",
    "run": "[PAIR...]",
    "pairs": "",
    "init": "[SOURCE TARGET]",
    "verify": "SOURCE [TARGET]",
    "status": "STORAGE [PEER]",
    "doctor": "",
    "log": "STORAGE [KEY]",
    "lost": "STORAGE [KEY]",
    "restore": "",
    "peers": "",
    "forget": "",
    "accept": "STORAGE [KEY...]",
    "commit": "",
    "compact": "",
    "unlock": "",
    "track": "",
    "untrack": "",
    "storages": "",
    "demo": "",
    "completion": "",
    "man": "",
}
"""{verb: its arguments, where some may be left out, which the help would call `[ARGS]`}, as the help lists them."""


def function_of(verb: str) -> Callable[..., int]:
    """Return the function that carries out a verb."""
    name = f"kvsync.cli.{verb}"
    module = sys.modules.get(name) or _loaded(name)
    return cast("Callable[..., int]", getattr(module, verb))


def _loaded(name: str) -> ModuleType:
    """Import a module with all that it needs, which stays: no time is spent on finding garbage in it, now or later."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if is_enabled:
            gc.enable()


def version_text() -> str:
    """Return the version that is installed, in words."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow, and rarely asked for

    try:
        return f"kvsync {version('kvsync')}"
    except PackageNotFoundError:
        return "kvsync (not installed, running from a source tree)"
