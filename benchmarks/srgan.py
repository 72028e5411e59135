"""Paper SRResNet in jaxgen against its rivals, and the time to the first step.

    python -m benchmarks.srgan [--quick] [--json benchmarks/results/srgan_cpu.json]

Training step: batch 16, 24x24 -> 96x96, mean squared error, Adam. Inference: one 128x128 picture
to 512x512. Rivals (`benchmarks.rivals`): PyTorch in either memory layout, its OpenMP threads
spinning (the default) or sleeping between their loops; torch.compile; for inference ONNX Runtime
and OpenVINO too. All have jaxgen's weights, and their pictures (in training: the losses of two
steps) must be jaxgen's. On a CPU each has two threads. Each runs in its own process and they are
timed in turn; the ratio is jaxgen's median over that of the best rival. On a GPU: bfloat16 against
autocast + channels-last, eager and compiled.

Run it on a quiet machine: where other programs want the cores, spinning threads make PyTorch up to
four times slower, and a ratio measured then flatters jaxgen. The CPU-time ratio (to the rivals'
least CPU time) suffers less. `of rate`, of that of a large matrix product, counts direct
convolution's operations; Winograd needs fewer, so it may pass 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import common, networks
from benchmarks.networks import Case

CASES = {
    "train": Case("SRResNet", "train", batch=16, size=24, parameters=1_550_659),
    "infer": Case("SRResNet", "infer", batch=1, size=128, parameters=1_550_659),
}


def first_step(config: str) -> dict[str, float]:
    """Seconds from the command to the log line of its first step, without and with compiled code.

    The data (the photos of the `tiny` and default configs) is prepared before, in both cases.
    """
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, cache: str) -> float:
            command = [
                sys.executable,
                "-m",
                "jaxgen.main",
                f"--config={config}",
                "--config.train.steps=1",
                "--config.train.log_every=1",
                f"--workdir={folder}/{name}",
            ]
            environment = {**os.environ, "JAXGEN_CACHE": cache}
            begin = time.perf_counter()
            with subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
            ) as process:
                assert process.stdout is not None
                lines, end = [], 0.0
                for line in process.stdout:
                    lines.append(line)
                    if "train step 1/1" in line:
                        end = time.perf_counter()
            if process.returncode or not end:
                raise RuntimeError("".join(lines[-5:]))
            return end - begin

        cache = Path(folder) / "cache"
        run("prepare", str(cache))
        for compiled in cache.glob("xla/*"):
            compiled.unlink()
        seconds["cold_s"] = run("cold", str(cache))
        seconds["warm_s"] = run("warm", str(cache))
    seconds["warm_over_cold"] = seconds["warm_s"] / seconds["cold_s"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--first-step-config", default="configs/srgan.py", help="its own config")
    args = parser.parse_args()
    if args.worker:
        return networks.run_worker(args)
    gpu = common.on_gpu()
    dtypes = ["bfloat16"] if gpu else ["float32"] if args.quick else ["float32", "bfloat16"]
    cases = [dataclasses.replace(case, dtype=d) for d in dtypes for case in CASES.values()]
    report, text = networks.compare_all("benchmarks.srgan", cases, 3 if args.quick else 11, gpu)
    report["first_step"] = first_step(args.first_step_config)
    print("\nfirst step: " + json.dumps(report["first_step"]))
    common.finish(report, args.json, text, args.into)


if __name__ == "__main__":
    main()
