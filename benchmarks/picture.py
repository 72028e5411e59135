"""Pictures for the docs: bicubic | models | original, on photos that no model was trained on.

    python -m benchmarks.picture SRResNet=runs/srgan@2500 SRGAN=runs/srgan \\
      --out docs/images/srgan_default.png

Each model is LABEL=RUN, with @STEP for a checkpoint other than the newest. The photos are astronaut
and chelsea, which scikit-image carries. Prints Y-PSNR of each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks import common
from jaxgen.data.resize import imresize, to_uint8
from jaxgen.data.sr import section as data
from jaxgen.data.sr.examples import validation_pairs
from jaxgen.grid import captioned_grid
from jaxgen.metrics.psnr_ssim import sr_metrics
from jaxgen.runs import model as runs

# (row, column) of the shown squares' corners, by photo.
PLACES = {"astronaut": (20, 150), "chelsea": (60, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="LABEL=RUN[@STEP]")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=176, help="of the shown squares, in pixels")
    options = parser.parse_args()
    models = dict(opened(text) for text in options.models)
    scale = {model.scale for model in models.values()}.pop()
    settings = data.defaults()
    settings.update(scale=scale, hr_size=24 * scale)
    rows, report = [], {}
    for name, low, high in validation_pairs(settings):
        pictures = {"bicubic": to_uint8(imresize(low, scale=scale, mode="float"))}
        pictures |= {label: model.upscale(low) for label, model in models.items()}
        scores = {k: sr_metrics(p, high, scale)["psnr_y"] for k, p in pictures.items()}
        report[name] = scores
        place = next((v for k, v in PLACES.items() if k in name), (0, 0))
        cells = [
            (f"{k} {scores[k]:.2f} dB", cut(p, place, options.side)) for k, p in pictures.items()
        ]
        rows.append([*cells, (f"original ({name})", cut(high, place, options.side))])
    common.save_picture(captioned_grid(rows), options.out)
    print(json.dumps(report, indent=1))


def opened(text: str) -> tuple[str, runs.Model]:
    """LABEL=RUN@STEP -> label and model."""
    label, _, where = text.partition("=")
    path, _, step = where.partition("@")
    return label, runs.load(path, step=int(step) if step else None)


def cut(image: np.ndarray, place: tuple[int, int], side: int) -> np.ndarray:
    """A square of the picture."""
    row, column = place
    return np.ascontiguousarray(image[row : row + side, column : column + side])


if __name__ == "__main__":
    main()
