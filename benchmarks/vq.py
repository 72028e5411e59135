"""What the VQ chain costs, one part after the other: training, drawing codes, VQGAN-CLIP.

    python -m benchmarks.vq [--quick]

Each part is a benchmark of its own (`vq_train`, `vq_prior`, `vq_clip`), whose page says what is
timed against what; their reports go to `benchmarks/results/NAME.json`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

PARTS = ("vq_train", "vq_prior", "vq_clip")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks, three rounds")
    args = parser.parse_args()
    for part in PARTS:
        print(f"\n# {part}", flush=True)
        more = ["--quick"] if args.quick else ["--json", f"benchmarks/results/{part}.json"]
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *more], check=True)


if __name__ == "__main__":
    main()
