"""Text-to-image models on captioned shapes, in one table and one picture.

    python -m benchmarks.shapes DF-GAN=runs/dfgan RDB=runs/dfgan-rdb GAN-CLS=runs/gan_cls \\
      --out docs/images/t2i_shapes.png --json benchmarks/results/shapes.json

Each model draws one picture for each of `-n` scenes' captions, with the noise of its evaluation, of
pairs of colour and shape that were trained on and of held-out ones. The exact reader
(`jaxgen.metrics.shapes_reader`) says which pictures show one plausible shape (valid), each
attribute, and all of the caption (whole). diversity is the mean distance between the pictures of
one caption, RMS in [0, 1]; 0: the noise has no effect. The first line is the data's own pictures.
Chance is for a random scene.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from jaxgen import run as runs
from jaxgen.data import captioned
from jaxgen.data.shapes import parse
from jaxgen.grid import captioned_grid, enlarge
from jaxgen.metrics.diversity import pixel_diversity
from jaxgen.metrics.shapes_reader import judge
from jaxgen.tasks.t2i_evaluation import evaluate

COLUMNS = ("valid", "shape", "colour", "size", "place", "whole")
PROMPTS = (
    "a large red circle at the top left",
    "a small blue square in the center",
    "a large yellow triangle at the bottom right",
    "a small gray circle on the right",
    "a large purple square at the bottom",
    "a large green circle in the center",  # green circles are held out
)
SHOWN = 3  # pictures of each prompt and model


def measure(model: runs.Model, count: int) -> dict[str, float]:
    """The model's own evaluation, on `count` captions of each split."""
    config = model.config.copy_and_resolve_references()
    config.eval.update(captions=count, pictures=48, noises=4)
    return dict(evaluate(config, model.verbs["generate"], model.nets, None, model.step).metrics)


def measure_data(model: runs.Model, count: int) -> dict[str, float]:
    """The same of the scenes themselves: what the reader can reach."""
    found: dict[str, list[float]] = {}
    for prefix, split in (("", "validation"), ("held_out_", "held_out")):
        records = captioned.validation_data(model.config.data, split)
        for i in range(min(count, len(records))):
            record = records[i]
            for key, right in judge(record["image"], parse(record["_captions"][0])).items():
                found.setdefault(prefix + key, []).append(float(right))
    scenes = captioned.validation_data(model.config.data)
    by_meaning: dict[int, list[np.ndarray]] = {}
    for i in range(len(scenes)):
        by_meaning.setdefault(scenes[i]["meaning"], []).append(scenes[i]["image"])
    groups = [np.stack(group) for group in by_meaning.values() if len(group) > 1]
    means = {key: float(np.mean(values)) for key, values in found.items()}
    return {**means, "diversity": float(np.mean([pixel_diversity(group) for group in groups]))}


def row(label: str, facts: dict[str, Any]) -> list[str]:
    """One line of the table; shares in percent."""
    scores = facts["metrics"]
    shares = [f"{100 * scores[key]:.1f}" for key in (*COLUMNS, "held_out_whole")]
    count = f"{facts['parameters']:,}" if facts["parameters"] else ""
    return [label, count, str(facts["step"] or ""), *shares, f"{scores['diversity']:.3f}"]


HEAD = ["model", "parameters", "step", *COLUMNS, "held-out whole", "diversity"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="LABEL=RUN")
    parser.add_argument("-n", type=int, default=1000, help="captions of each split, at most 1000")
    parser.add_argument("--out", type=Path, help="picture of all models' answers to some prompts")
    parser.add_argument("--json", help="where to write the report")
    options = parser.parse_args()
    models = {
        label: runs.load(path) for label, _, path in (m.partition("=") for m in options.models)
    }
    first = next(iter(models.values()))
    report: dict[str, Any] = {"machine": common.machine(), "captions": options.n, "models": {}}
    report["models"]["data"] = {
        "metrics": measure_data(first, options.n), "parameters": 0, "step": 0,
    }  # fmt: skip
    for label, model in models.items():
        report["models"][label] = {
            "metrics": measure(model, options.n),
            "parameters": model.parameters,
            "step": model.step,
            "size": model.config.data.size,
        }
    rows = [HEAD, *(row(label, facts) for label, facts in report["models"].items())]
    rows.append(["chance", "", "", "", *(f"{100 / n:.1f}" for n in (3, 8, 2, 9, 432, 432)), ""])
    print(common.table(rows))
    if options.json:
        common.write_json(options.json, report)
    if options.out:
        drawn = {label: model.generate(PROMPTS, SHOWN, seed=1) for label, model in models.items()}
        grid = [
            [
                (label if j == 0 else "", enlarge(pictures[i, j], 64))
                for label, pictures in drawn.items()
                for j in range(SHOWN)
            ]
            for i in range(len(PROMPTS))
        ]
        options.out.parent.mkdir(parents=True, exist_ok=True)
        captioned_grid(grid, titles=PROMPTS).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
