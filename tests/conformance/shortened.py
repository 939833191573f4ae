"""Storages that differ little from one that another class tests in full.

They leave sizes and races to that class, and to the long variant. Both take nearly all of the time of a class, and go
through code that the two classes share: how a table is mapped or a wrapper passes calls on shows with single values.
"""

from __future__ import annotations

from variants import LONG

from kvsync.testing.conformance import StorageConformance, races

__all__ = ["shortened"]

SIZES = {"test_ten_thousand_keys_in_a_batch", "test_three_thousand_of_which_every_third_expires"}
RACES = {name for part in races.__all__ for name in vars(getattr(races, part)) if name.startswith("test")}


def shortened(suite: type[StorageConformance]) -> type[StorageConformance]:
    """Leave sizes and races out of a class, but in the long variant."""
    for name in () if LONG else SIZES | RACES:
        assert hasattr(suite, name), name
        setattr(suite, name, None)
    return suite
