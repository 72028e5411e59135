"""Text-to-image models on captioned shapes, in one table and one picture.

    python -m benchmarks.shapes --json benchmarks/results/shapes.json --out grid.png
    python -m benchmarks.shapes DF-GAN=configs/dfgan.py mine=runs/mine

The first line trains the families' defaults one after the other (40 minutes on 2 CPU cores; what is
in `--runs` already goes on, or is taken as it is), then measures them and a bundled model.

Each model draws one picture for each of `-n` scenes' captions, with the noise of its evaluation, of
pairs of colour and shape that were trained on and of held-out ones. The exact reader
(`jaxgen.metrics.shapes_reader`) says which pictures show one plausible shape (valid), each
attribute, and all of the caption (whole). diversity is the mean distance between the pictures of
one caption, RMS in [0, 1]; 0: the noise has no effect. The first line is the data's own pictures.
Chance is for a random scene.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from jaxgen.data.captioned.records import validation_data
from jaxgen.data.captioned.shapes import parse
from jaxgen.evaluation.captions import evaluate
from jaxgen.grid import captioned_grid, enlarge
from jaxgen.metrics.diversity import pixel_diversity
from jaxgen.metrics.shapes_reader import judge
from jaxgen.runs import model as runs

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
# What is compared where nothing is named: configs, which are trained, and a bundled model.
DEFAULTS = (
    "GAN-INT-CLS=configs/gan_cls.py",
    "StackGAN=configs/stackgan.py",
    "SSA-GAN=configs/ssagan.py",
    "DF-GAN=configs/dfgan.py",
    "DF-GAN + RDB=configs/dfgan.py:rdb",
    "bundled DF-GAN=dfgan_shapes",
)


def trained(named: Sequence[str], folder: Path) -> dict[str, tuple[str, float | None]]:
    """{label: (run, seconds)} of LABEL=SOURCE; a source that is a config is trained in `folder`.

    seconds: wall time of the whole training command; None if it was not one go, or not here.
    """
    found: dict[str, tuple[str, float | None]] = {}
    for label, _, source in (one.partition("=") for one in named):
        if ".py" not in source:
            found[label] = source, None
            continue
        run = folder / label.replace(" ", "_")
        took, new = run / "seconds.txt", not run.exists()
        if not took.exists():
            began = time.monotonic()
            command = ["-m", "jaxgen.main", f"--config={source}", f"--workdir={run}"]
            subprocess.run([sys.executable, *command], check=True)
            took.write_text(f"{time.monotonic() - began:.0f}" if new else "")
        text = took.read_text()
        found[label] = str(run), float(text) if text else None
    return found


def measure(model: runs.Model, count: int) -> dict[str, float]:
    """The model's own evaluation, on `count` captions of each split."""
    config = model.config.copy_and_resolve_references()
    config.eval.update(captions=count, pictures=48, noises=4)
    return dict(evaluate(config, model.verbs["generate"], model.nets, None, model.step).metrics)


def measure_data(model: runs.Model, count: int) -> dict[str, float]:
    """The same of the scenes themselves: what the reader can reach."""
    found: dict[str, list[float]] = {}
    for prefix, split in (("", "validation"), ("held_out_", "held_out")):
        records = validation_data(model.config.data, split)
        for i in range(min(count, len(records))):
            record = records[i]
            for key, right in judge(record["image"], parse(record["_captions"][0])).items():
                found.setdefault(prefix + key, []).append(float(right))
    scenes = validation_data(model.config.data)
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
    seconds = facts.get("seconds")
    took = f"{int(seconds) // 60}:{int(seconds) % 60:02d}" if seconds else ""
    step = f"{facts['step']:,}" if facts["step"] else ""
    return [label, count, step, took, *shares, f"{scores['diversity']:.3f}"]


HEAD = ["model", "parameters", "steps", "time", *COLUMNS, "held-out whole", "diversity"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    common.add_report(parser)
    parser.add_argument("models", nargs="*", default=DEFAULTS, metavar="LABEL=RUN or LABEL=CONFIG")
    parser.add_argument("--runs", type=Path, default=Path("runs/shapes"), help="of the trained")
    parser.add_argument("-n", type=int, default=1000, help="captions of each split, at most 1000")
    parser.add_argument("--out", type=Path, help="picture of all models' answers to some prompts")
    options = parser.parse_args()
    sources = trained(options.models, options.runs)
    models = {label: runs.load(path) for label, (path, _) in sources.items()}
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
            "seconds": sources[label][1],
            "size": model.config.data.size,
        }
    rows = [HEAD, *(row(label, facts) for label, facts in report["models"].items())]
    rows.append(["chance", "", "", "", "", *(f"{100 / n:.1f}" for n in (3, 8, 2, 9, 432, 432)), ""])
    text = common.table(rows)
    print(text)
    common.finish(report, options.json, text, options.into)
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
        common.save_picture(captioned_grid(grid, titles=PROMPTS), options.out)


if __name__ == "__main__":
    main()
