"""How time and memory grow: with a picture's area, with the number of pictures, with the batch.

    python -m benchmarks.growth [--quick] [--json benchmarks/results/growth_cpu.json]

  upscale    `srgan_x4` on one picture, against its area, 128x128 to 4096x4096
  generate   `dfgan_shapes` with one text, against the number of pictures
  batch      a step of configs/srgan.py with all phases of its GAN stage, against the batch size
  size       the same step at batch 16, against the area of the crops

Every point is measured in a process of its own: the least wall time of a few repetitions (one where
it takes long), its CPU time, and the largest resident memory; of steps, whose process still holds
what the compiler took, the temporary memory that the program states. The exponents are
least-squares slopes of the logarithms over each curve's three largest points, those of memory of
what came on top of the loaded model; 1 is linear. Prints the table and says what grows faster.
Without `--quick` the table goes into docs/performance.md, and the plot into docs/images/growth.png.
About ten minutes on two quiet cores, `--quick` two.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common

ROOT = Path(__file__).resolve().parent.parent
PAGE, PLOT = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "growth.png"
BATCH, SIDE = 16, 96  # of the training step, where they are not what grows
SUPER_LINEAR = 1.1  # an exponent above it is not noise
# A repetition that takes longer is the only one; shorter ones go on for so many seconds in all.
LONG, ENOUGH = 20.0, 3.0
MEBI = 2**20


class Curve(NamedTuple):
    """What grows: points to measure, with `--quick` too, and how a point and its axis are called.

    square: whether points are sides, whose squares time is held against.
    """

    points: tuple[int, ...]
    quick: tuple[int, ...]
    label: str
    axis: str
    square: bool = False


CURVES = {
    "upscale": Curve(
        (128, 256, 512, 1024, 2048, 4096), (128, 256, 512), "{0} x {0}", "pixels in", square=True
    ),
    "generate": Curve((1, 16, 64, 256, 1024, 4096), (16, 64, 256), "n = {0}", "pictures"),
    "batch": Curve((4, 8, 16, 32, 64), (4, 8), f"{{0}} x {SIDE} x {SIDE}", "batch size"),
    "size": Curve(
        (48, 96, 144, 192), (32, 48), f"{BATCH} x {{0}} x {{0}}", "pixels of a crop", square=True
    ),
}
STEPS = ("batch", "size")
KINDS = ("time", "cpu", "memory")  # of exponents


# ---------------------------------------------------------------------------- one point, by itself


def prepare(what: str, point: int) -> Any:
    """What is timed for a point of a curve: a callable without arguments."""
    if what in STEPS:
        return training_step(*((point, SIDE) if what == "batch" else (BATCH, point)))
    import jaxgen

    if what == "generate":
        model = jaxgen.load("dfgan_shapes")
        return lambda: model.generate("a large red circle at the top left", n=point)
    model = jaxgen.load("srgan_x4")
    picture = np.random.default_rng(0).integers(0, 256, (point, point, 3), np.uint8)
    return lambda: model.upscale(picture)


def training_step(batch: int, side: int) -> Any:
    """SRGAN's default step in its GAN stage: a `benchmarks.trainer.Step`."""
    from benchmarks.trainer import Step
    from jaxgen import config as configs

    settings = {"train.batch_size": batch, "data.hr_size": side}
    config = configs.load(ROOT / "configs" / "srgan.py", settings)
    rng = np.random.default_rng(0)
    low, high = (
        rng.integers(0, 256, (batch, n, n, 3), np.uint8) for n in (side // config.data.scale, side)
    )
    return Step(config, {"lr": low, "hr": high}, at=config.model.pretrain_steps)


def measure(what: str, point: int) -> dict[str, Any]:
    """Times the point; seconds and bytes."""
    run = prepare(what, point)
    forget_peak()
    loaded = resident("VmRSS")
    walls, cpus = [], []
    # The first run compiles: a small part of it where it takes long.
    while not walls or (walls[0] < LONG and sum(walls[1:]) < ENOUGH):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    best = int(np.argmin(walls))
    facts = {
        "point": point,
        "wall_s": walls[best],
        "cpu_s": cpus[best],
        "first_s": walls[0],
        "runs": len(walls),
        "loaded_bytes": loaded,
        "peak_bytes": resident("VmHWM"),
    }
    if what in STEPS:
        facts |= {"loaded_bytes": 0, "peak_bytes": run.facts["temporary_bytes"]}
    return facts


def forget_peak() -> None:
    """Lets the largest resident memory begin anew, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def resident(field: str) -> int:
    """Bytes of this process's memory by Linux's count; elsewhere always the peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


# ------------------------------------------------------------------------------------- all of them


def ask(what: str, point: int) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--point", what, str(point)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of log y over log x at the three largest x; NaN where y is not positive."""
    x, y = x[-3:], y[-3:]
    if min(y) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def grown(what: str, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A curve's points and its exponents of time and memory."""
    x = [p["point"] ** (2 if CURVES[what].square else 1) for p in points]
    added = [p["peak_bytes"] - p["loaded_bytes"] for p in points]
    return {
        "points": list(points),
        "exponent_of_time": exponent(x, [p["wall_s"] for p in points]),
        "exponent_of_cpu": exponent(x, [p["cpu_s"] for p in points]),
        "exponent_of_memory": exponent(x, added),
    }


def rows(curves: dict[str, Any]) -> list[list[str]]:
    """The table; a curve's exponents stand at its largest point."""
    found = [["what", "point", "wall", "CPU / wall", "peak memory", "exponents: wall, CPU, memory"]]
    for what, curve in curves.items():
        for p in curve["points"]:
            last = p is curve["points"][-1]
            slopes = [curve[f"exponent_of_{kind}"] for kind in KINDS]
            found.append(
                [
                    what,
                    CURVES[what].label.format(p["point"]),
                    f"{p['wall_s']:.3g} s",
                    f"{p['cpu_s'] / p['wall_s']:.2f}",
                    f"{p['peak_bytes'] / MEBI:.0f} MiB",
                    ", ".join(f"{slope:.2f}" for slope in slopes) if last else "",
                ]
            )
    return found


def verdict(curves: dict[str, Any]) -> str:
    """One line: what grows faster than linearly."""
    faster = [
        f"{kind} of {what} ({curve[f'exponent_of_{kind}']:.2f})"
        for what, curve in curves.items()
        for kind in ("time", "memory")
        if curve[f"exponent_of_{kind}"] > SUPER_LINEAR
    ]
    return "Super-linear: " + (", ".join(faster) or "nothing") + "."


def draw(curves: dict[str, Any], path: Path) -> None:
    """Time and memory over what grows, both axes logarithmic; dashed: linear growth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    figure, axes = plt.subplots(2, len(curves), figsize=(2.4 * len(curves), 4), dpi=90)
    for column, (what, curve) in zip(axes.T.reshape(-1, 2), curves.items(), strict=True):
        points = [p["point"] for p in curve["points"]]
        x = np.array(points, float) ** (2 if CURVES[what].square else 1)
        peaks = np.array([p["peak_bytes"] for p in curve["points"]]) / MEBI
        walls = np.array([p["wall_s"] for p in curve["points"]])
        names = [f"{p}²" if CURVES[what].square else str(p) for p in points]
        for axis, y, name in zip(column, (walls, peaks), ("seconds", "MiB"), strict=True):
            axis.loglog(x, y, "o-", markersize=3, linewidth=1)
            axis.loglog(x, y[-1] * x / x[-1], "--", color="0.6", linewidth=1)
            axis.set_ylim(y.min() / 2, y.max() * 2)
            axis.set_xticks(x, names, rotation=45)
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=6))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.minorticks_off()
            axis.set_ylabel(name, fontsize=7)
            axis.tick_params(labelsize=6)
        column[0].set_title(what, fontsize=9)
        column[1].set_xlabel(CURVES[what].axis, fontsize=7)
    common.save_figure(figure, path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    common.add_report(parser)
    parser.add_argument("--quick", action="store_true", help="few small points; writes no docs")
    parser.add_argument("--plot", type=Path, help=f"[default: {PLOT.relative_to(ROOT)}]")
    parser.add_argument("--only", choices=list(CURVES), help="one curve; writes no docs")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        return print(json.dumps(measure(args.point[0], int(args.point[1]))))
    report: dict[str, Any] = {"machine": common.machine(), "curves": {}}
    for what in [args.only] if args.only else CURVES:
        points = []
        for point in CURVES[what].quick if args.quick else CURVES[what].points:
            points.append(ask(what, point))
            seconds, peak = points[-1]["wall_s"], points[-1]["peak_bytes"] / MEBI
            print(f"{what} {point}: {seconds:.3g} s, {peak:.0f} MiB", flush=True)
        report["curves"][what] = grown(what, points)
    text = common.table(rows(report["curves"])) + "\n\n" + verdict(report["curves"])
    print("\n" + text)
    whole = not (args.quick or args.only)
    if plot := args.plot or (PLOT if whole else None):
        draw(report["curves"], plot)
    shown = f"{text}\n\n![growth of time and memory](images/{PLOT.name})" if whole else text
    common.finish(report, args.json, shown, args.into or (PAGE if whole else None))


if __name__ == "__main__":
    main()
