"""Draws results.json: where a reset and a print spend their time, and resets by pages dirtied.

`plot.py PICTURE.svg`; `make plot` puts it into the documentation.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PART = "reset and print: "
PAGES = re.compile(r"reset, (\d+) pages dirtied")


def main(picture: str) -> None:
    """Draw both."""
    rows = json.loads((HERE / "results.json").read_text(encoding="utf-8"))["results"]
    # The same picture for the same figures, whenever it is drawn; text that can be read and found.
    mpl.rcParams.update({"svg.hashsalt": "hyperlight", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(9, 6), layout="constrained")
    parts, resets = figure.subplots(2, 1, height_ratios=[1, 2])
    _parts(parts, [row for row in rows if row["name"].startswith(PART) and row["unit"] == "us"])
    _resets(resets, [row for row in rows if PAGES.fullmatch(row["name"])])
    figure.savefig(picture, format="svg", metadata={"Date": None})


def _parts(axes: Axes, rows: list[dict[str, Any]]) -> None:
    at = 0.0
    for row in rows:
        name = row["name"].removeprefix(PART)
        axes.barh(0, row["value"], left=at, label=f"{name}: {row['value']:.0f} µs")
        at += row["value"]
    axes.set_yticks([])
    axes.set_xlabel("µs")
    axes.set_title("A reset and a print, part by part")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=2, frameon=False)


def _resets(axes: Axes, rows: list[dict[str, Any]]) -> None:
    pages = [int(row["name"].split()[1]) for row in rows]
    axes.plot(pages, [row["value"] for row in rows], marker="o", label="reset")
    axes.plot(pages, [row["floor"] for row in rows], marker="o", label="memcpy of as many pages")
    axes.set(xscale="log", yscale="log", xlabel="pages dirtied", ylabel="µs")
    axes.set_title("A reset follows the pages dirtied")
    axes.legend(frameon=False)
    axes.grid(visible=True, which="both", linewidth=0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
