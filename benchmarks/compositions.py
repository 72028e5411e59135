"""The table of all compositions on one data set: recall with its mean and spread over seeds.

    python -m benchmarks.compositions [--forms tirg,concat] [--seeds 3] [--steps N]
        [--config configs/tirg.py] [--workdir runs/compositions] [--json FILE]

Each composition and seed is a run in a folder of its own; what is finished is not run again, and a
stopped one goes on. Beside the table stand the gallery's rules and what an oracle reaches.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

FORMS = (
    "image", "text", "concat", "mrn", "relationship", "film", "tirg", "tirg_lastconv",
)  # fmt: skip
# 4 x 4 places: of the map's own 8 x 8 the pairs are sixteen times as many.
SETTINGS = {"relationship": {"pool": 2}}
SHOWN = ("recall_at_1", "recall_at_5", "recall_at_10", "held_out_at_1", "mean_rank")


def trained(file: str, form: str, seed: int, steps: int, workdir: Path) -> dict[str, float]:
    """Metrics of a composition's run."""
    from jaxgen import config as configs
    from jaxgen.train import loop

    config = configs.load(file)
    with config.unlocked():
        config.model.compose = {"form": form, **SETTINGS.get(form, {})}
        config.train.seed = seed
        config.train.eval_every = 0
        if steps:
            config.train.steps = steps
    result = loop.train(config, workdir / f"{form}_{seed}")
    if result.stopped != "done":
        raise SystemExit(f"{form}, seed {seed}: {result.stopped}; the same command goes on")
    return dict(result.metrics)


def summary(found: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """(mean, standard deviation) of each metric over seeds; 0 of a single one."""
    return {
        name: (float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)
        for name in found[0]
        if (values := [one[name] for one in found])
    }


def table(rows: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Markdown, recalls in per cent."""
    lines = [f"| composition | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 1) + "|"]
    for form, values in rows.items():
        cells = []
        for name in SHOWN:
            mean, spread = values.get(name, (float("nan"), 0.0))
            scale = 1.0 if name == "mean_rank" else 100.0
            cells.append(f"{scale * mean:.1f} ± {scale * spread:.1f}")
        lines.append(f"| {form} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="0: the config's")
    parser.add_argument("--config", default="configs/tirg.py")
    parser.add_argument("--workdir", type=Path, default=Path("runs/compositions"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    for form in arguments.forms.split(","):
        seeds = range(arguments.seeds)
        found = [
            trained(arguments.config, form, seed, arguments.steps, arguments.workdir)
            for seed in seeds
        ]
        rows[form] = summary(found)
        print(table(rows), flush=True)
    if ceiling := next(iter(rows.values())).get("ceiling_at_1"):
        print(f"\nan oracle reaches {100 * ceiling[0]:.1f} at 1; {arguments.seeds} seeds each")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
