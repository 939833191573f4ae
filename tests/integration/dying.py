"""Begins a run, says so in the middle of its first write or delete of a value, and waits to be killed there."""

from __future__ import annotations

import sys
import time
from typing import Any

from places import Hooked

import kvsync


def say_and_wait(method: str, *_: Any) -> None:
    if method in {"write", "delete"}:
        sys.stdout.write("in the middle\n")
        sys.stdout.flush()
        time.sleep(600)


source, target, at = sys.argv[1:]
when = {at: say_and_wait}
kvsync.sync(source, Hooked(target, **when), scan=True, max_delete="100%", wait_seconds=0)
