"""Examples per second of the default SRGAN data pipeline, with and without worker processes.

    python -m benchmarks.data [--json data.json] [--needed 150]

The default pipeline: embedded photos, 96x96 crops, x4 MATLAB bicubic, flips and turns, batch 16.
`--needed` is what the training step consumes (`python -m benchmarks.srgan` measures it); the report
then gives the pipeline's speed as a multiple of it. Settings are timed in turn, three rounds, and
the median is reported, so that a busy machine slows them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from absl import flags

from benchmarks import common
from jaxgen.data.pipeline import close, train_iterator
from jaxgen.data.sr import section as data_lib
from jaxgen.data.sr.examples import train_transform
from jaxgen.data.sr.sources import open_source

BATCH = 16
ROUNDS = 3


def measure(workers: int, batches: int) -> tuple[float, float]:
    """(seconds to the first batch, examples per second after `batches` // 4 batches of warm-up)."""
    data = data_lib.defaults()
    begin = time.perf_counter()
    stream = train_iterator(
        open_source(data, "train"),
        train_transform(data),
        batch_size=BATCH,
        seed=0,
        workers=workers,
        threads=data.threads,
    )
    try:
        next(stream)
        first = time.perf_counter() - begin
        for _ in range(batches // 4):
            next(stream)
        begin = time.perf_counter()
        for _ in range(batches):
            next(stream)
        return first, batches * BATCH / (time.perf_counter() - begin)
    finally:
        close(stream)


def run(batches: int = 200, needed: float = 0.0) -> dict[int, dict[str, float]]:
    """Measures 0 and 2 workers in turn; their numbers."""
    open_source(data_lib.defaults(), "train")  # prepares the photos, outside the timing
    rounds: dict[int, list[tuple[float, float]]] = {0: [], 2: []}
    for _ in range(ROUNDS):
        for workers, results in rounds.items():
            results.append(measure(workers, batches))
    found: dict[int, dict[str, float]] = {}
    for workers, results in rounds.items():
        rate = statistics.median(rate for _, rate in results)
        first = statistics.median(first for first, _ in results)
        found[workers] = {"examples_per_second": rate, "seconds_to_first_batch": first}
        if needed:
            found[workers]["times_needed"] = rate / needed
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    common.add_report(parser)
    parser.add_argument("--batches", type=int, default=200, help="batches timed per round")
    parser.add_argument("--needed", type=float, default=0.0, help="examples/s training consumes")
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # for Grain's workers
    report: dict[str, Any] = {"machine": common.machine(), "needed": arguments.needed or None}
    report["workers"] = run(arguments.batches, arguments.needed)
    names = list(report["workers"][0])
    rows = [["workers", *(name.replace("_", " ") for name in names)]]
    for workers, numbers in report["workers"].items():
        rows.append([str(workers), *(f"{numbers[name]:.4g}" for name in names)])
    text = common.table(rows)
    print(text)
    common.finish(report, arguments.json, text, arguments.into)


if __name__ == "__main__":
    main()
