"""What of a write or delete is refused: what LMDB cannot hold, and what is not as expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsync.native import digest_values
from kvsync.types import Refusal, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvsync.storages.lmdb.values import Values

__all__ = ["impossible", "unexpected", "written"]

LOOK_COUNT = 100
VALUE_BYTES_MAX = (1 << 32) - (1 << 16)


def impossible(
    keys: Sequence[str], raw: Sequence[bytes | None], values: Sequence[bytes], barred: frozenset[bytes]
) -> dict[str, Refusal]:
    """Return refusals of what LMDB cannot hold, and of keys that are names of databases."""
    refused = {}
    for key, k, value in zip(keys, raw, values, strict=True):
        if k is None:
            refused[key] = Refusal(key, "it has a lone surrogate", changed=False)
        elif k in barred:
            refused[key] = Refusal(key, "it is the name of a database of this environment", changed=False)
        elif len(value) > VALUE_BYTES_MAX:
            refused[key] = Refusal(key, "a value of LMDB ends below 4 GiB", changed=False)
    return refused


def unexpected(
    there: Values,
    keys: Sequence[tuple[str, bytes]],
    expected: dict[str, bytes | None],
    *,
    absent_is_fine: bool = False,
) -> dict[str, Refusal]:
    """Return refusals of the keys whose value is not the expected one."""
    refused: dict[str, Refusal] = {}
    for start in range(0, len(keys), LOOK_COUNT):  # what is there may be larger than what is written
        some = keys[start : start + LOOK_COUNT]
        found = there.get([k for _, k in some])
        digests = iter(digest_values([value for value in found if value is not None]))
        for (key, _), value in zip(some, found, strict=True):
            token = next(digests) if value is not None else None
            if token != expected[key] and not (absent_is_fine and token is None):
                refused[key] = Refusal(key, "the value there is not the expected one", changed=True)
    return refused


def written(keys: Sequence[str], refused: dict[str, Refusal]) -> Written:
    """Return the outcome of a call over `keys`."""
    return Written(tuple(refused[key] for key in dict.fromkeys(keys) if key in refused)) if refused else Written()
