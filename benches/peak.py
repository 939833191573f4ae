"""Tells by how much this process grows at most from reading two index files to their delta.

Run by `bench_delta.py`, in a process of its own, so that no other peak hides this one. Prints JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

from indices import NAME
from kvsync import _core
from measure import reset_peak, resident_bytes


def grown(a: Path, b: Path, cover_a: _core.Cover, cover_b: _core.Cover) -> tuple[int, list[int]]:
    """Return the growth of the peak in bytes, the input included, and the sizes of the delta."""
    gc.collect()
    reset_peak()
    before = resident_bytes("VmRSS")
    segments = _core.Segment.decode_all([(path.read_bytes(), NAME) for path in (a, b)])
    found = _core.delta(segments[:1], segments[1:], cover_a, cover_b)
    sizes = [len(found.to_a), len(found.to_b)]
    return resident_bytes("VmHWM") - before, sizes


def main() -> None:
    """Measure with the vectors given, and with nothing known to be common."""
    a, b, covers = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    known, sizes = grown(a, b, *(_core.Cover(dict(vector)) for vector in covers))
    everything, _ = grown(a, b, _core.Cover(), _core.Cover())
    print(json.dumps({"vectors": known, "everything": everything, "missing": sizes}))


if __name__ == "__main__":
    main()
