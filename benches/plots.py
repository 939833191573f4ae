"""Draw the plots of docs/benchmarks.md from the figures that a run of the benches wrote down.

    pytest benches/bench_collection.py --kvsync-json figures.json
    python benches/plots.py figures.json docs/figures

Each plot whose figures are in the file is drawn anew. The same figures give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PLOTS", "Panel", "Plot", "draw", "main"]

# Text stays text, and no random ids: the file changes where the figures do.
STYLE: dict[Any, object] = {"svg.fonttype": "none", "svg.hashsalt": "kvsync", "font.size": 9, "axes.spines.top": False}
INK = "#1f6feb"


@dataclass(frozen=True)
class Panel:
    """One curve.

    Attributes:
        what: a pattern for the names of its figures; its group is the place on the horizontal axis.
        title: what the curve shows.
        axis: what the horizontal axis counts.
    """

    what: str
    title: str
    axis: str

    def points(self, lines: Sequence[dict[str, object]]) -> list[tuple[int, float, str]]:
        """Return (place, value, unit) of the figures of the curve, ascending."""
        matches = ((re.fullmatch(self.what, str(line["what"])), line) for line in lines)
        return sorted((int(match[1]), float(str(line["value"])), str(line["unit"])) for match, line in matches if match)


@dataclass(frozen=True)
class Plot:
    """A file: panels side by side, from the figures of one bench."""

    name: str
    bench: str
    panels: tuple[Panel, ...]

    def curves(self, lines: Sequence[dict[str, object]]) -> Iterator[tuple[Panel, list[tuple[int, float, str]]]]:
        """Yield the panels for which there are figures."""
        ours = [line for line in lines if line["bench"] == self.bench]
        found = ((panel, panel.points(ours)) for panel in self.panels)
        return ((panel, points) for panel, points in found if points)


TENTHS = "tenth of the runs"
PLOTS = (
    Plot(
        "three-years",
        "collection",
        (
            Panel(r"index after part (\d+) of \d+", "index", TENTHS),
            Panel(r"a run in part (\d+)", "a run", TENTHS),
        ),
    ),
)


def draw(axes: Axes, panel: Panel, points: Sequence[tuple[int, float, str]]) -> None:
    """Draw a curve over an axis that begins at zero, so that flat looks flat."""
    places, values, units = zip(*points, strict=True)
    axes.plot(places, values, marker="o", markersize=3, color=INK)
    axes.set_ylim(0, 1.25 * max(values))
    axes.set_title(f"{panel.title}, {units[0]}", loc="left")
    axes.set_xlabel(panel.axis)
    axes.spines["right"].set_visible(False)


def main(figures: Path, folder: Path) -> None:
    """Draw every plot for which the file has figures."""
    lines = json.loads(figures.read_text())["lines"]
    folder.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        curves = list(plot.curves(lines))
        if not curves:
            continue
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(3.6 * len(curves), 2.4), layout="constrained")
            rows = figure.subplots(1, len(curves), squeeze=False)
            for axes, (panel, points) in zip(rows[0], curves, strict=True):
                draw(axes, panel, points)
            figure.savefig(folder / f"{plot.name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
