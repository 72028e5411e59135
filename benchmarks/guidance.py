"""Caption accuracy and diversity of a diffusion model on captioned shapes, against guidance.

    python -m benchmarks.guidance --model RUN [--values 1,1.5,2,3,5,8] [-n 200] [--json FILE]
        [--plot FILE.png]

A picture of each of the first n captions of the validation set, and of the held-out combinations;
diversity is of four pictures of each of the first 48, beside it the data's own. Prints a Markdown
table; --plot draws the curves. Another guidance compiles nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.shapes import measure_data

SEED = 7  # of the noise; a run's evaluation has another
GROUPS, OF_EACH = 48, 4  # captions whose diversity is measured, and pictures of each
SPLITS = ("validation", "held_out")


def captions(config: Any, split: str, count: int) -> list[str]:
    """One caption of each of a split's first records."""
    from jaxgen.data.captioned.records import validation_data

    records = validation_data(config.data, split)
    texts = [records[i]["_captions"] for i in range(min(count, len(records)))]
    return [own[i % len(own)] for i, own in enumerate(texts)]


def measure(use: Any, guidance: float, texts: dict[str, list[str]]) -> dict[str, float]:
    """The shares of pictures that show their whole caption, and the diversity, in [0, 1].

    Args: texts: of each split.
    """
    from jaxgen.evaluation.captions import accuracy, diversity, judge

    def drawn(asked: Sequence[str], of_each: int) -> list[np.ndarray]:
        jobs = [(prompt, j) for prompt in map(use.read, asked) for j in range(of_each)]
        return [picture for picture, _ in use.each(jobs, seed=SEED, guidance=guidance)]

    found = {"guidance": guidance}
    for split, asked in texts.items():
        judged = [judge(*pair) for pair in zip(asked, drawn(asked, 1), strict=True)]
        found[split] = accuracy(judged)["whole"]
    many = drawn(texts["validation"][:GROUPS], OF_EACH)
    groups = [np.stack(many[i : i + OF_EACH]) for i in range(0, len(many), OF_EACH)]
    return {**found, "diversity": diversity(groups)}


def draw(rows: Sequence[dict[str, float]], data: float, path: Path) -> None:
    """Accuracy and diversity over guidance; dashed: the data's diversity."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.4), dpi=90)
    at = [row["guidance"] for row in rows]
    for split, name in zip(SPLITS, ("seen", "held out"), strict=True):
        left.plot(at, [row[split] for row in rows], "o-", markersize=3, linewidth=1, label=name)
    left.set_ylim(min(0.9, *(row[split] for row in rows for split in SPLITS)) - 0.02, 1.01)
    left.set_ylabel("whole caption right", fontsize=7)
    left.legend(fontsize=6)
    right.plot(at, [row["diversity"] for row in rows], "o-", markersize=3, linewidth=1)
    right.axhline(data, color="0.6", linestyle="--", linewidth=1)
    right.set_ylim(0, None)
    right.set_ylabel("diversity (dashed: the data's)", fontsize=7)
    for axis in (left, right):
        axis.set_xlabel("guidance", fontsize=7)
        axis.tick_params(labelsize=6)
    common.save_figure(figure, path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--values", default="1,1.5,2,3,5,8", help="of guidance")
    parser.add_argument("-n", type=int, default=200, help="captions of each split")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()

    import jaxgen

    model = jaxgen.load(given.model)
    texts = {split: captions(model.config, split, given.n) for split in SPLITS}
    data = measure_data(model, 1)["diversity"]
    rows = []
    for value in map(float, given.values.split(",")):
        rows.append(measure(model.generate, value, texts))
        print(rows[-1], flush=True)
    shown = [[f"{row[key]:.3g}" for key in ("guidance", *SPLITS, "diversity")] for row in rows]
    print(common.table([["guidance", "seen", "held out", "diversity"], *shown]))
    print(f"the data's diversity: {data:.3f}")
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "data": data}, indent=1) + "\n")
    if given.plot:
        draw(rows, data, given.plot)


if __name__ == "__main__":
    main()
