"""The README's picture: bicubic | SRResNet | SRGAN | original on the held-out photos.

    python -m benchmarks.picture --run runs/srgan --out docs/images/srgan_default.png

Takes a run of `configs/srgan.py` with both stages: the checkpoint where pre-training ended, and
the newest one. Prints the numbers of each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from jaxgen import run as runs
from jaxgen.data.resize import imresize, to_uint8
from jaxgen.data.sr import validation_pairs
from jaxgen.grid import captioned_grid
from jaxgen.metrics.psnr_ssim import sr_metrics

# (row, column) of the shown squares' corners, by photo.
PLACES = {"astronaut": (20, 150), "chelsea": (60, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", default="runs/srgan")
    parser.add_argument("--out", type=Path, default=Path("docs/images/srgan_default.png"))
    parser.add_argument("--side", type=int, default=176, help="of the shown squares, in pixels")
    options = parser.parse_args()
    gan = runs.load(options.run)
    resnet = runs.load(options.run, step=gan.config.model.pretrain_steps)
    rows, report = [], {}
    for name, low, high in validation_pairs(gan.config.data):
        pictures = {
            "bicubic": to_uint8(imresize(low, scale=gan.scale, mode="float")),
            "SRResNet": resnet.upscale(low),
            "SRGAN": gan.upscale(low),
        }
        scores = {k: sr_metrics(p, high, gan.scale)["psnr_y"] for k, p in pictures.items()}
        report[name] = scores
        place = next((v for k, v in PLACES.items() if k in name), (0, 0))
        cells = [
            (f"{k} {scores[k]:.2f} dB", cut(p, place, options.side)) for k, p in pictures.items()
        ]
        rows.append([*cells, (f"original ({name})", cut(high, place, options.side))])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    captioned_grid(rows).save(options.out, optimize=True)
    print(json.dumps(report, indent=1))


def cut(image: np.ndarray, place: tuple[int, int], side: int) -> np.ndarray:
    """A square of the picture."""
    row, column = place
    return np.ascontiguousarray(image[row : row + side, column : column + side])


if __name__ == "__main__":
    main()
