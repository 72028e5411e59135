"""What the numbers of evaluations mean, in one line each, for the log and for `jaxgen eval`."""

from __future__ import annotations

from collections.abc import Iterable

SAYS = {
    "psnr_y": "dB between the brightness of result and original; higher is truer to the pixels",
    "ssim_y": "likeness of structure in brightness, 1 for equal pictures; higher is better",
    "psnr_rgb": "dB between all three colours of result and original; higher is better",
    "gain_y": "dB of psnr_y above bicubic enlargement; below 0 bicubic is truer to the pixels",
    "distance": "how far features of a network lie from the original's; lower looks more alike",
    "texture": "how far the amount of fine detail lies from the original's; lower is better",
    "lpips": "distance as people see it (LPIPS), 0 for equal pictures; lower is better",
    "blur": "0 sharp to 1 blurred, of a picture alone; compare with the original's",
    "whole": "share of pictures that show all that their caption says; higher is better",
    "named": "share of pictures with what their caption says among other things; higher is better",
    "attributes": "how often the true caption is nearer than a changed one; higher is better",
    "valid": "share of pictures that could be of the data at all; higher is better",
    "diversity": "how far pictures of one caption lie apart; near 0 the model draws one picture",
    "fid": "distance of the sets' features (FID); lower is better, compare at equal counts alone",
    "kid": "kernel distance of the sets' features (KID), unbiased by their number; lower is better",
    "is": "Inception Score: sure and varied classes; higher is better",
    "fd": "Fréchet distance of a random network's features, for one's own models; lower is better",
    "kd": "kernel distance of a random network's features, for one's own models; lower is better",
    "precision": "share of drawn pictures that lie among the real ones: quality; higher is better",
    "recall": "share of real pictures that lie among the drawn ones: variety; higher is better",
    "texts_at_1": "how often a picture's nearest text is one of its own; higher is better",
    "pictures_at_1": "how often a text's nearest picture is one of its own; higher is better",
    "top_1": "share of pictures whose class is the nearest; higher is better",
    "read_whole": "share of scenes that are right after encoding and decoding; higher is better",
    "usage": "share of the codebook that is used; a few per cent is a collapsed one",
    "perplexity": "how many codes are used alike; higher is better",
    "structure_distance": "how far parts are alike in another way, for a ViT; lower keeps more",
    "psnr_unedit_part": "dB outside the mask, which is black in both; higher is better",
    "mse_unedit_part": "squared difference outside the mask; lower is better",
    "ssim_unedit_part": "likeness of structure outside the mask; higher is better",
    "clip_similarity_source_image": "100 x cosine of the source and its text; to compare",
    "clip_similarity_target_image": "100 x cosine of the edit and its text; higher is better",
    "clip_similarity_target_image_edit_part": "of the edit inside the mask alone; higher is better",
    "nats": "loss in nats for each code; lower is better",
}
# Names that begin so are of a network by its name.
_BY_PREFIX = ("structure_distance_", "lpips_", "fd_", "kd_", "precision_", "recall_")
_LEFT_OUT = ("_std", "_all")


def meaning(name: str) -> str:
    """What a number is; "" of one that is not in the list."""
    if name in SAYS:
        return SAYS[name]
    if name.startswith("held_out_") and (says := meaning(name.removeprefix("held_out_"))):
        return f"{says}; of combinations that were never trained on"
    if name.endswith(_LEFT_OUT):
        return ""
    return next((SAYS[p.rstrip("_")] for p in _BY_PREFIX if name.startswith(p)), "")


def explain(names: Iterable[str]) -> list[str]:
    """ "name: what it is" of each number that has a meaning here."""
    return [f"{name}: {says}" for name in dict.fromkeys(names) if (says := meaning(name))]
