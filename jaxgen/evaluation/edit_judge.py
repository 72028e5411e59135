"""Edited pictures judged as PIE-Bench's published code does it: what had to stay, what was asked.

Its conventions, which the numbers here have, too, by its names (Ju et al. 2024, arXiv 2310.01506,
`evaluation/matrics_calculator.py`; the tables multiply structure distance and LPIPS by 1,000, MSE
by 10,000 and SSIM by 100):

- What is of a part is of both pictures with black in place of all else, in 8 bits. Means are over
  all pixels, the black ones among them: the smaller what had to stay, the better the numbers.
- psnr, mse: of RGB in [0, 1]. ssim: 11x11 Gaussian of sigma 1.5 that lies within the picture, mean
  over the channels. All as torchmetrics has them; its later versions (pull request 2721, 2024)
  count reflected borders into the SSIM, which is another number.
- lpips: of [-1, 1], where black is -1; published with SqueezeNet.
- clip_similarity: 100 times the cosine of a picture and its text, not below 0; published with
  ViT-L/14. Of the edited part: of the picture that is black elsewhere, and the whole text.
- structure_distance: of the whole pictures. Here the published code feeds the network pixels of
  0..255; see `jaxgen.metrics.structure`. Ours are [0, 1]; its own is structure_distance_published.

Where nothing had to stay there are no numbers of it, and pictures that are equal there have an
infinite PSNR.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgen.encoders import dino, lpips
from jaxgen.errors import UserError
from jaxgen.metrics.clip_score import cosines
from jaxgen.metrics.psnr_ssim import psnr, ssim
from jaxgen.metrics.structure import picture_distance
from jaxgen.verbs.embed.use import Embedder
from jaxgen.weights.digests import sampled_fingerprint

Distance = Callable[[np.ndarray, np.ndarray], float]
STRUCTURE, LPIPS, CLIP = "structure_distance", "lpips", "clip_similarity"


class Shown(NamedTuple):
    """What is judged.

    Attributes:
      source, edited: uint8 (h, w, 3).
      mask: bool (h, w), where it may change; None: nobody says it.
      text: what the source shows; "" where nobody says it.
      target: what the edited one shall show.
    """

    source: np.ndarray
    edited: np.ndarray
    mask: np.ndarray | None
    text: str
    target: str


class EditJudge:
    """Numbers of edited pictures; those whose weights are not given are left out.

    Attributes:
      by: what the numbers are by, of those that need weights: name and fingerprint.
      left_out: of the others, what to give.

    Args:
      clip: a trained or converted CLIP's `embed`. lpips_files: see `jaxgen.encoders.lpips.load`.
      dino_file: see `jaxgen.encoders.dino.load`.
      published: the structure distance as PIE-Bench's code computes it.

    Raises:
      UserError: no such weights.
    """

    def __init__(
        self,
        clip: Embedder | None = None,
        lpips_files: Sequence[Path] = (),
        dino_file: Path | None = None,
        published: bool = False,
    ):
        self.by: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self._clip = clip
        self._lpips: tuple[str, Distance] | None = None
        self._structure: tuple[str, Distance] | None = None
        if published and dino_file is None:
            raise UserError("--published is of the structure distance: give --dino, its weights")
        if clip is None:
            self.left_out[CLIP] = "give --clip, a trained or converted CLIP"
        else:
            self.by[CLIP] = f"{os.fspath(clip.name)} {sampled_fingerprint(clip.variables)}"
        if lpips_files:
            params = lpips.load(*lpips_files)
            name = f"{LPIPS}_{lpips.trunk_of(params['trunk'])}"
            self._lpips = name, lpips.picture_distance(params)
            self.by[name] = sampled_fingerprint(params)
        else:
            self.left_out[LPIPS] = "give --lpips twice, a trunk and its heads"
        if dino_file is not None:
            vit = dino.load(dino_file)
            net = dino.module_of(vit)
            name = f"{STRUCTURE}_published" if published else STRUCTURE
            self._structure = name, picture_distance(vit, published)
            self.by[name] = (
                f"ViT of {net.width} features, {net.depth} blocks, patches of {net.patch} "
                f"{sampled_fingerprint(vit)}"
            )
        else:
            self.left_out[STRUCTURE] = "give --dino, such as dino_vitbase8_pretrain.pth"

    def numbers(self, shown: Sequence[Shown]) -> list[dict[str, float]]:
        """Of each picture, in the order of PIE-Bench's tables.

        Raises:
          UserError: pictures too small for SSIM or LPIPS.
        """
        found = [self._of_pixels(one) for one in shown]
        for numbers, more in zip(found, self._by_clip(shown), strict=True):
            numbers |= more
        return found

    def _of_pixels(self, one: Shown) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._structure is not None:
            name, distance = self._structure
            found[name] = distance(one.source, one.edited)
        if one.mask is None:
            if self._lpips is not None:
                name, distance = self._lpips
                found[name] = distance(one.source, one.edited)
            return found
        if one.mask.all():
            return found
        kept = [part(picture, ~one.mask) for picture in (one.edited, one.source)]
        found["psnr_unedit_part"] = psnr(*kept)
        if self._lpips is not None:
            name, distance = self._lpips
            found[f"{name}_unedit_part"] = distance(*kept)
        apart = (kept[0].astype(np.float64) - kept[1]) / 255.0
        found["mse_unedit_part"] = float(np.mean(np.square(apart)))
        found["ssim_unedit_part"] = ssim(*kept)
        return found

    def _by_clip(self, shown: Sequence[Shown]) -> list[dict[str, float]]:
        """Of each picture; all of them are looked at together."""
        found: list[dict[str, float]] = [{} for _ in shown]
        if self._clip is None:
            return found
        asked: list[tuple[dict[str, float], str, np.ndarray, str]] = []
        for numbers, one in zip(found, shown, strict=True):
            if one.text:
                asked.append((numbers, f"{CLIP}_source_image", one.source, one.text))
            asked.append((numbers, f"{CLIP}_target_image", one.edited, one.target))
            if one.mask is not None and one.mask.any():
                black = part(one.edited, one.mask)
                asked.append((numbers, f"{CLIP}_target_image_edit_part", black, one.target))
        pictures = self._clip.pictures([picture for _, _, picture, _ in asked])
        texts = self._clip.texts([text for *_, text in asked])
        likeness = 100.0 * np.maximum(cosines(pictures, texts), 0.0)
        for (numbers, name, *_), value in zip(asked, likeness, strict=True):
            numbers[name] = float(value)
        return found


def part(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3), black where the mask (h, w) is not True."""
    return picture * mask[..., None].astype(np.uint8)
