"""What the benchmarks share: workers of two frameworks timed in turn, the machine, tables, JSON."""

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
from typing import Any


def machine() -> dict[str, Any]:
    """CPU model, cores and versions of what is measured."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    versions = {}
    for package in ("jax", "jaxlib", "flax", "optax", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "python": platform.python_version(),
        "versions": versions,
        "load_at_start": load,
    }


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


def serve(run: Callable[[], None], facts: Mapping[str, Any]) -> None:
    """The worker's side: says that it is ready, then times `run` for each line of standard input.

    `run` must not return before its result is there.
    """
    run()
    run()
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(times), flush=True)


def in_turn(workers: Mapping[str, Worker], rounds: int) -> dict[str, dict[str, Any]]:
    """Times A B C A B C ..., so that a busy machine slows all alike; closes the workers."""
    for _ in range(rounds):
        for worker in workers.values():
            worker.time()
    for worker in workers.values():
        worker.close()
    return {name: worker.result() for name, worker in workers.items()}


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def write_json(path: str | Path, report: Mapping[str, Any]) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


# ------------------------------------------------------------ one network, in both frameworks


def against_torch(
    ours: Sequence[str], theirs: Mapping[str, Sequence[str]], rounds: int, gpu: bool
) -> dict[str, Any]:
    """Times our worker and PyTorch's forms in turn; the ratios are to PyTorch's best.

    Args: commands of the workers; PyTorch's by memory layout, on a CPU also with sleeping threads.
    """
    workers = {"jaxgen": Worker(ours)}
    for layout, command in theirs.items():
        workers[layout] = Worker(command)
        if not gpu:
            workers[f"{layout}, passive"] = Worker(command, {"OMP_WAIT_POLICY": "passive"})
    results = in_turn(workers, rounds)
    mine = results.pop("jaxgen")
    best = min(results, key=lambda name: results[name]["median_s"])
    return {
        "jaxgen": mine,
        "torch": results,
        "torch_best": best,
        "ratio": mine["median_s"] / results[best]["median_s"],
        "ratio_of_min": mine["min_s"] / min(r["min_s"] for r in results.values()),
        "ratio_of_cpu_time": mine["cpu_s"] / min(r["cpu_s"] for r in results.values()),
    }


# Columns of what `against_torch` gives.
RATIOS = ("jaxgen", "torch", "ratio", "of least", "of CPU time")


def ratios(result: Mapping[str, Any]) -> list[str]:
    """The cells under `RATIOS`."""
    best = result["torch_best"]
    return [
        f"{1e3 * result['jaxgen']['median_s']:.0f} ms",
        f"{1e3 * result['torch'][best]['median_s']:.0f} ms ({best})",
        f"{result['ratio']:.2f}",
        f"{result['ratio_of_min']:.2f}",
        f"{result['ratio_of_cpu_time']:.2f}",
    ]


def on_gpu() -> bool:
    """Whether jax computes on a GPU; asked in a process of its own, which frees it again."""
    code = "import jax; print(jax.default_backend())"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return answer.stdout.split()[-1] == "gpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every comparison, and those by which it starts its workers."""
    parser.add_argument("--quick", action="store_true", help="float32 only, three rounds")
    parser.add_argument("--json", help="where to write the report")
    parser.add_argument("--worker", choices=["jax", "torch", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--layout", help=argparse.SUPPRESS)
