"""The bundled photo models: the pictures they learn from, and how they do on saved pictures.

    python -m benchmarks.photo gather FOLDER [--wallpapers FOLDER]
    python -m benchmarks.photo measure --data SR [--model srresnet_photo_x4] [--scale 4]

gather: writes to FOLDER/train scikit-image's photos, scikit-learn's two where it is installed (it
was not for the bundled models) and, of an unpacked Debian package lomiri-wallpapers-16.04, the
photos that its copyright file puts under CC-BY-4.0 or CC0-1.0, made three times smaller, which
takes their own JPEG's traces away; to FOLDER/validation the two of scikit-image's that recipes are
chosen by.

measure: Set5 and Set14 below SR, made smaller by MATLAB's bicubic filter and then left clean, saved
as JPEG of quality 40 and 75, blurred a little, or made noisy; each against bicubic. Y-PSNR by the
benchmarks' protocol, and `distance`, on which share of the pictures it is better than bicubic's.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import common

# Of the package's pictures: CC-BY-4.0, but for seeding (CC0-1.0).
WALLPAPERS = (
    "aitzgorri_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi", "sunset_by_Aitzol_Berasategi", "Picture_0B_by_freespace",
    "Picture_1A_by_freespace", "seeding_by_Clements_Engelhardt",
    "Wine_by_Jakkub_Mede",
)  # fmt: skip
SIDE = 1300  # of a gathered photo, the longer one, at most


def gather(folder: Path, wallpapers: Path | None) -> None:
    """Writes the photos as PNG."""
    from jaxgen.data.sr import section, sources

    train = folder / "train"
    for split in ("train", "validation"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        photos = sources.open_source(section.defaults(), split)
        for i in range(len(photos)):
            picture = Image.fromarray(photos[i]["image"])
            picture.save(folder / split / f"skimage_{i:02d}.png")
    try:
        from sklearn.datasets import load_sample_images

        for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
            Image.fromarray(picture).save(train / f"sklearn_{name}.png")
    except ImportError:
        print("without scikit-learn's two: not installed")
    for name in WALLPAPERS if wallpapers else ():
        [path] = wallpapers.rglob(f"{name}.jpg")
        picture = Image.open(path).convert("RGB")
        factor = max(3.0, max(picture.size) / SIDE)
        size = tuple(round(n / factor) for n in picture.size)
        picture.resize(size, Image.Resampling.LANCZOS).save(train / f"{name}.png")
    print(f"{train}  {len(list(train.iterdir()))} photos")


def saved(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    """Through JPEG, uint8 (h, w, 3) -> the same."""

    def through(x: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(x).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return through


def noisy(x: np.ndarray) -> np.ndarray:
    """Gaussian noise of four levels, then JPEG of quality 75."""
    noise = np.random.default_rng(0).normal(0, 4, x.shape)
    return saved(75)(np.clip(np.rint(x + noise), 0, 255).astype(np.uint8))


CASES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": lambda x: x,
    "JPEG 75": saved(75),
    "JPEG 40": saved(40),
    "noise": noisy,
    "blur": lambda x: x,  # before it is made smaller
}


def measure(model: str, data: Path, scale: int) -> str:
    """The table of one model."""
    import jax

    import jaxgen
    from jaxgen.data.sr.degrade import degrade, gaussian_blur, mod_crop
    from jaxgen.encoders import vgg
    from jaxgen.evaluation import sr

    upscale = jaxgen.load(model).upscale
    seen = vgg.load_perceptual("random", sr.EVALUATION_LAYERS, 0.5, sr.EVALUATION_SEED)
    far = jax.jit(sr.feature_distances)
    measures = sr.chosen()
    rows = [["set", "picture", "bicubic", model, "gain", "distance", "better"]]
    for name in ("Set5", "Set14"):
        files = sorted(p for p in (data / name).rglob("HR/*.png") if "x2" not in p.parts)
        for case, through in CASES.items():
            found = []
            for path in files:
                high = mod_crop(np.asarray(Image.open(path).convert("RGB")), scale)
                blurred = gaussian_blur(high, 0.25 * scale) if case == "blur" else high
                pictures, scores = sr.compare(
                    upscale, through(degrade(blurred, scale)), high, measures
                )
                x, *ys = (
                    one[None].astype(np.float32) / 127.5 - 1
                    for one in (high, pictures["bicubic"], pictures["model"])
                )
                found.append(
                    [scores[kind]["psnr_y"] for kind in ("bicubic", "model")]
                    + [float(far(seen, y, x)["distance"]) for y in ys]
                )
            plain, ours, before, after = np.array(found).T
            rows.append(
                [
                    name, case, f"{plain.mean():.2f}", f"{ours.mean():.2f}",
                    f"{(ours - plain).mean():+.2f}", f"{before.mean():.4f} -> {after.mean():.4f}",
                    f"{np.mean(after < before):.0%}",
                ]
            )  # fmt: skip
            print(" ".join(rows[-1]), flush=True)
    return common.table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, dest="what")
    one = commands.add_parser("gather")
    one.add_argument("folder", type=Path)
    one.add_argument("--wallpapers", type=Path, help="the unpacked package")
    two = commands.add_parser("measure")
    two.add_argument("--model", default="srresnet_photo_x4")
    two.add_argument("--data", type=Path, required=True, help="folder of Set5 and Set14")
    two.add_argument("--scale", type=int, default=4)
    args = parser.parse_args()
    if args.what == "gather":
        gather(args.folder, args.wallpapers)
    else:
        print(measure(args.model, args.data, args.scale))


if __name__ == "__main__":
    main()
