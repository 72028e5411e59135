"""What the benchmarks share: workers that are timed in turn, the machine, tables, JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

THREADS = 2  # of everything that is timed on a CPU
PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "torch", "diffusers", "onnx", "onnxruntime",
    "openvino",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """CPU model, cores and versions of what is measured."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": model,
        "cores": len(cores()),
        "python": platform.python_version(),
        "versions": versions,
        "load_at_start": load(),
    }


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def load() -> float | None:
    """Load average of the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def keep_to_threads() -> None:
    """Leaves this process and those that it starts `THREADS` cores: XLA uses all that it sees."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[:THREADS])


# ----------------------------------------------------------------------------------- time in turn


class Worker:
    """A process that prepares one case, then times it whenever it is asked to.

    One process per case, so that thread pools and allocators of two frameworks do not meet; the
    others sleep while one works.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.facts: dict[str, Any] = self._read()
        self.walls: list[float] = []
        self.cpus: list[float] = []

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"worker ended with status {self.process.wait()}: {self.process.args}")

    def time(self) -> None:
        """One more repetition."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        times = self._read()
        self.walls.append(times["wall"])
        self.cpus.append(times["cpu"])

    def result(self) -> dict[str, Any]:
        """Median and least wall and CPU seconds of one repetition."""
        return {
            "median_s": statistics.median(self.walls),
            "min_s": min(self.walls),
            "cpu_s": statistics.median(self.cpus),
            **self.facts,
        }

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def serve(
    run: Callable[[], Any],
    facts: Mapping[str, Any],
    check: Callable[[list[Any]], None] = lambda results: None,
) -> None:
    """The worker's side: says that it is ready, then times `run` for each line of standard input.

    run: must not return before its result is there. check: gets the results of two runs before
      the timing, and raises if they are wrong.
    """
    check([run(), run()])
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(times), flush=True)


def in_turn(workers: Mapping[Any, Worker], rounds: int) -> dict[Any, dict[str, Any]]:
    """Times A B C A B C ..., so that a busy machine slows all alike; closes the workers."""
    for _ in range(rounds):
        for worker in workers.values():
            worker.time()
    for worker in workers.values():
        worker.close()
    return {name: worker.result() for name, worker in workers.items()}


class Start(NamedTuple):
    """How a rival's worker is started.

    rival: its name in tables. form: which of its forms; the fastest counts.
    """

    rival: str
    form: str
    command: Sequence[str]
    environment: Mapping[str, str] = {}


def compare(ours: Sequence[str], theirs: Sequence[Start], rounds: int) -> dict[str, Any]:
    """Times jaxgen's worker and the rivals' in turn; the ratios are jaxgen's to the best rival's.

    jaxgen's is started first, so that the others can read what it left for them.
    """
    workers: dict[Any, Worker] = {None: Worker(ours)}
    for start in theirs:
        workers[start.rival, start.form] = Worker(start.command, start.environment)
    results = in_turn(workers, rounds)
    mine = results.pop(None)
    best = min(results, key=lambda name: results[name]["median_s"])
    rivals: dict[str, dict[str, Any]] = {}
    for (rival, form), result in results.items():
        rivals.setdefault(rival, {})[form] = result
    return {
        "jaxgen": mine,
        "rivals": rivals,
        "best": list(best),
        "ratio": mine["median_s"] / results[best]["median_s"],
        "ratio_of_min": mine["min_s"] / min(r["min_s"] for r in results.values()),
        "ratio_of_cpu_time": mine["cpu_s"] / min(r["cpu_s"] for r in results.values()),
    }


def head(rivals: Sequence[str]) -> list[str]:
    """Names of the columns that `cells` fills."""
    return ["jaxgen", *rivals, "ratio", "of least", "of CPU time"]


def cells(report: Mapping[str, Any], rivals: Sequence[str]) -> list[str]:
    """What `compare` gave under `head(rivals)`: medians of each rival's best form; a dash: none."""
    times = [_milliseconds(report["jaxgen"]["median_s"])]
    for rival in rivals:
        forms = report["rivals"].get(rival, {})
        medians = [form["median_s"] for form in forms.values()]
        times.append(_milliseconds(min(medians)) if medians else "-")
    return [*times, *(f"{report[k]:.2f}" for k in ("ratio", "ratio_of_min", "ratio_of_cpu_time"))]


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms"


# ---------------------------------------------------------------------------------------- reports


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def finish(
    report: dict[str, Any], path: str | None, text: str, page: str | Path | None = None
) -> None:
    """Notes the load at the end; writes the report as JSON, and its table into a page of the docs.

    path, page: None: not written. The table's place in the page is between the lines
    `<!-- table of NAME -->` and `<!-- end -->`, with the name of the benchmark that runs.
    """
    report["machine"]["load_at_end"] = load()
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(report, indent=1) + "\n")
    if page is not None:
        put(Path(page), Path(sys.argv[0]).stem, text)


def put(page: Path, name: str, text: str) -> None:
    """Replaces what stands in the place that a page has for the benchmark `name`."""
    start, end = f"<!-- table of {name} -->\n", "<!-- end -->"
    before, found, rest = page.read_text().partition(start)
    if not found or end not in rest:
        raise SystemExit(f"{page} has no line {start.strip()} followed by {end}")
    page.write_text(f"{before}{start}\n{text}\n\n{rest[rest.index(end) :]}")


def save_picture(picture: Any, path: Path) -> None:
    """A PIL image as a small file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def save_figure(figure: Any, path: Path) -> None:
    """A matplotlib figure as a small PNG: 32 colours are enough for lines and text."""
    import numpy as np
    from PIL import Image

    figure.tight_layout()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    save_picture(Image.fromarray(pixels).quantize(32), path)


def on_gpu() -> bool:
    """Whether jax computes on a GPU; asked in a process of its own, which frees it again."""
    code = "import jax; print(jax.default_backend())"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.split()[-1] == "gpu"


def add_report(parser: argparse.ArgumentParser) -> None:
    """Where every benchmark's results go."""
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--into", metavar="PAGE", help="page of the docs to put the table into")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every comparison, and those by which it starts its workers."""
    add_report(parser)
    parser.add_argument("--quick", action="store_true", help="float32 only, three rounds")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
