"""What two sides that were equal change independently of each other, and what both hold once they have met."""

from __future__ import annotations

from kvsync import Delete, Put

__all__ = ["GIVEN", "THERE", "met"]

GIVEN: list[Put | Delete] = [Put("key/1", b"given"), Put("given", b"new"), Delete("key/2")]
THERE: list[Put | Delete] = [Put("key/3", b"there"), Put("there", b"newer"), Delete("key/4")]


def met(base: dict[str, bytes]) -> dict[str, bytes]:
    """Return what becomes of `base`, which has keys `key/1` to `key/4`."""
    kept = {key: value for key, value in base.items() if key not in {"key/2", "key/4"}}
    return {**kept, "key/1": b"given", "given": b"new", "key/3": b"there", "there": b"newer"}
