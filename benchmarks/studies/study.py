"""Write the table of results/study.md from study.jsonl: variants of training the network alone.

    python -m benchmarks.studies.study

The study is finished. What the names of a line's "changes" mean is on the page; the program that
ran them is in git's history as benchmarks/study.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.common import ROOT
import helper

LINES = Path(__file__).with_suffix(".jsonl")
PAGE = ROOT / "results" / "study.md"
HEADING = "## Every run"
STEPS = 2000  # of a line that names none


def lines() -> list:
    """The runs of study.jsonl, a dict each."""
    return [json.loads(row) for row in LINES.read_text().splitlines()]


def table(rows: list) -> str:
    """Format the runs as a Markdown table, shapes in the order in which they first appear.

    Distances are in thousandths of half the shape's longest side.
    """
    text = ["| shape | change | steps | CPU s | mean | p99 | max | parts |", "|" + "---|" * 8]
    for row in sorted(rows, key=lambda row: [r["shape"] for r in rows].index(row["shape"])):
        changes = {name: value for name, value in row["changes"].items() if name != "steps"}
        what = " ".join(f"{name}={value}" for name, value in changes.items()) or "-"
        averaged = f", averaged {1000 * row['averaged']:.2f}" if "averaged" in row else ""
        steps = row["changes"].get("steps", STEPS)
        mean, p99, most = (f"{1000 * row[name]:.3g}" for name in ("mean", "p99", "max"))
        text.append(f"| {row['shape']} | {what} | {steps:,} | {row['cpu_seconds']:.0f} | "
                    f"{mean}{averaged} | {p99} | {most} | {row['components']} |")
    return "\n".join(text) + "\n"


def render(text: str, rows: list) -> str:
    """The page `text` with a fresh table after its last heading, HEADING."""
    return text[: text.index(HEADING)] + f"{HEADING}\n\n{table(rows)}"


if __name__ == "__main__":
    with helper.replacing(PAGE) as temporary:
        temporary.write_text(render(PAGE.read_text(), lines()))
