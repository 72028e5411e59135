"""Does the prompt decide the picture? Right, empty and wrong prompts, measured on unseen scenes."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from jaxgen.data.resize import imresize
from jaxgen.data.scenes.drawing import draw, make_scene, other_textures, usual_caption
from jaxgen.grid import enlarge
from jaxgen.metrics.psnr_ssim import psnr, rgb_to_y
from jaxgen.task import Evaluation
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.verbs.upscale.use import Upscaler

PROMPTS = ("right", "empty", "shuffled")
ROWS = 6  # of the sample grid
SIDE = 256  # of a picture in it, at least


def evaluate(config: ConfigDict, verb: Upscale, nets, frozen, step) -> Evaluation:
    """Means over `eval.images` validation scenes, whose combinations of textures were not trained.

    psnr_right, psnr_empty, psnr_shuffled: PSNR of luma in dB by the field's protocol, with the
      scene's own caption, the empty prompt, and the caption of a scene that differs from this one
      in all its textures and in nothing else; psnr_rgb_* the same of RGB.
    gap_empty, gap_shuffled: how far the right prompt is above those, in dB.
    consistency: mean absolute difference between the shrunk result and the input, in levels of
      255, with the right prompt; consistency_shuffled with the wrong one.

    On several hosts each measures all scenes: they are few, and made on the spot.
    """
    del frozen, step
    upscale = Upscaler(verb, nets, config.family)
    totals: dict[str, list[float]] = {}
    rows: list[list[tuple[str, np.ndarray]]] = []
    for index in range(config.eval.images):
        scene = make_scene("validation", index, config.data.hr_size)
        wrong = other_textures(scene, np.random.default_rng(index))
        texts = {
            "right": usual_caption(scene),
            "empty": "",
            "shuffled": usual_caption(wrong),
        }
        high = draw(scene)
        low = imresize(high, scale=1 / config.data.scale)
        results = {}
        for kind, text in texts.items():
            results[kind] = upscale(low, prompt=text)
        for key, value in measure(results, low, high, config.data.scale).items():
            totals.setdefault(key, []).append(value)
        if len(rows) < ROWS:
            rows.append(_row(texts, results, low, high))
    return Evaluation({key: float(np.mean(values)) for key, values in totals.items()}, rows)


def measure(results: dict[str, np.ndarray], low, high, scale: int) -> dict[str, float]:
    """The metrics of one scene; see `evaluate`. Pictures are uint8."""
    cut = slice(scale, -scale)
    found = {}
    for kind, picture in results.items():
        ours, theirs = picture[cut, cut], high[cut, cut]
        found[f"psnr_{kind}"] = psnr(rgb_to_y(ours), rgb_to_y(theirs))
        found[f"psnr_rgb_{kind}"] = psnr(ours, theirs)
    for kind in PROMPTS[1:]:
        found[f"gap_{kind}"] = found["psnr_right"] - found[f"psnr_{kind}"]
    for kind, name in (("right", "consistency"), ("shuffled", "consistency_shuffled")):
        again = imresize(results[kind], scale=1 / scale).astype(np.float64)
        found[name] = float(np.abs(again - low).mean())
    return found


def _row(texts, results, low, high) -> list[tuple[str, np.ndarray]]:
    """The sample grid's row: input, then the three prompts, then the original; shown larger."""
    original = enlarge(high, SIDE)
    side = len(original)  # of the input's cell, too
    cells = [
        ("input", enlarge(low, side)),
        ("empty prompt", enlarge(results["empty"], side)),
        ("right prompt:\n" + texts["right"].replace(", ", "\n"), enlarge(results["right"], side)),
        (
            "wrong prompt:\n" + texts["shuffled"].replace(", ", "\n"),
            enlarge(results["shuffled"], side),
        ),
        ("original", original),
    ]
    # As many lines everywhere, so that the pictures stand level.
    most = max(caption.count("\n") for caption, _ in cells)
    return [(text + "\n" * (most - text.count("\n")), picture) for text, picture in cells]
