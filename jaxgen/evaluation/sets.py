"""Generated pictures against a reference set: all numbers, and the record of how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxgen.errors import UserError
from jaxgen.metrics import inception_score as inception
from jaxgen.metrics import kid
from jaxgen.metrics.features import FeatureNet, Measured
from jaxgen.metrics.frechet import frechet_distance
from jaxgen.metrics.precision_recall import NEIGHBOURS, precision_recall
from jaxgen.metrics.statistics import Statistics

# Below so many pictures a Fréchet distance says more of their number than of the model (TTUR's
# README asks for 10,000).
FEW = 10_000


def report(
    net: FeatureNet, generated: Measured, reference: Statistics, splits: int = inception.SPLITS
) -> dict[str, Any]:
    """All numbers that the two sets allow.

    Args:
      net: that measured both; its label names the numbers.
      generated: from `jaxgen.metrics.features.measure`.
      reference: the same, or read from a file.
      splits: of the Inception Score.

    Returns: {"scores": {name: float}, "generated", "reference" (the records of both), "settings",
      "remarks": [text]}. Scores are fid, kid (mean over subsets), kid_std, kid_all (from all
      features), is, is_std, precision, recall; of another network than Inception fd_<label>,
      kd_<label>, kd_<label>_std, kd_<label>_all, precision_<label>, recall_<label>. What the
      reference has no features for is left out, and so is precision of fewer than 4 pictures.

    Raises:
      UserError: the reference was measured by another network or resizing.
    """
    check_same(net, reference)
    ours = generated.statistics
    scores = {_name(net, "fid", "fd"): frechet_distance(ours, reference)}
    settings: dict[str, Any] = {}
    remarks = _remarks(ours, reference)
    if ours.features is not None and reference.features is not None:
        a, b = ours.features, reference.features
        kernel = _name(net, "kid", "kd")
        mean, scores[f"{kernel}_std"] = kid.kernel_distance_of_subsets(a, b)
        for name, value in ((kernel, mean), (f"{kernel}_all", kid.kernel_distance(a, b))):
            scores[name] = max(0.0, value)
            if value < 0:
                remarks.append(f"{name}: the unbiased estimate is {value:.3g}, below 0 by chance")
        settings["kernel_subsets"] = kid.SUBSETS
        settings["kernel_subset_size"] = min(kid.SUBSET_SIZE, len(a), len(b))
        settings["kernel_seed"] = kid.SEED
        if min(len(a), len(b)) > NEIGHBOURS:
            precision, recall = precision_recall(a, b)
            scores[_name(net, "precision", "precision")] = precision
            scores[_name(net, "recall", "recall")] = recall
            settings["neighbours"] = NEIGHBOURS
    else:
        remarks.append("the reference file has no features: only the Fréchet distance is of it")
    if generated.logits is not None:
        scores["is"], scores["is_std"] = inception.inception_score(generated.logits, splits)
        settings["splits"], settings["shuffle_seed"] = splits, inception.SEED
    return {
        "scores": scores,
        "generated": dict(ours.about),
        "reference": dict(reference.about),
        "settings": settings,
        "remarks": remarks,
    }


def _name(net: FeatureNet, inceptions: str, others: str) -> str:
    return f"{others}_{net.label}" if net.label else inceptions


def check_same(net: FeatureNet, reference: Statistics) -> None:
    """Raises UserError if a reference was measured by another network or resizing."""
    if len(reference.mean) != net.size:
        raise UserError(
            f"the reference has features of {len(reference.mean)} numbers, "
            f"{net.about['features']} gives {net.size}: they are of two networks"
            + (" (--inception FILE?)" if net.label else "")
        )
    for key in ("features", "resize"):
        theirs = reference.about.get(key, net.about[key])
        if theirs != net.about[key]:
            raise UserError(
                f"the reference was measured with {key} {theirs!r}, the pictures with "
                f"{net.about[key]!r}: numbers of two kinds make no distance"
            )


def _remarks(ours: Statistics, reference: Statistics) -> list[str]:
    remarks = []
    few = min(ours.n, reference.n or ours.n)
    if few < FEW:
        remarks.append(
            f"{few:,} pictures: a Fréchet distance of so few is biased upwards; compare only with "
            "one of as many"
        )
    if not reference.about.get("features"):
        remarks.append("the reference file does not say by which network and resize it was made")
    elif reference.about["weights"] != ours.about["weights"]:
        remarks.append("the two sets were measured with two files of weights: the same ones?")
    for name, about in (("pictures", ours.about), ("reference", reference.about)):
        formats: Mapping[str, int] = about.get("formats", {})
        if lossy := sum(n for suffix, n in formats.items() if suffix in (".jpg", ".jpeg", ".webp")):
            remarks.append(f"{lossy:,} of the {name} are lossily compressed, which moves distances")
    return remarks
