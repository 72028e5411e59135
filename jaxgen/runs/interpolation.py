"""Network interpolation: a model between two."""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.runs.model import Model
from jaxgen.weights import parts


def interpolate(a: Model, b: Model, alpha: float) -> Model:
    """A model between two of the same network: weights (1 - alpha) * a + alpha * b.

    Network interpolation (ESRGAN, Wang et al. 2018, section 3.4): between a model trained for
    pixels and a GAN that began as it, alpha chooses how much invented texture there is. Two
    networks that were not trained from one another have nothing sensible between them.

    Args:
      a, b: of one family, with the same generator section and scale.
      alpha: 0 (`a`) to 1 (`b`).

    Returns: a model like `b`; its config says in `interpolation` what it was made of.

    Raises:
      UserError: alpha is out of range, or the networks differ (all differences are named).
    """
    import jax

    if not 0 <= alpha <= 1:
        raise UserError(f"alpha must lie between 0 and 1, not {alpha:g}")
    networks = _network(a), _network(b)
    problems = configs.differences(*networks) + configs.added(*networks)
    made = [{name: part.fingerprint for name, part in m.made_of.items()} for m in (a, b)]
    names = sorted(made[0].keys() | made[1].keys())
    problems += [f"parts.{name}" for name in names if made[0].get(name) != made[1].get(name)]
    trained = [_trained(model) for model in (a, b)]
    ours, theirs = (weights.flatten(nets) for nets in trained)
    if not problems:
        shapes = [{k: np.shape(v) for k, v in flat.items()} for flat in (ours, theirs)]
        keys = sorted(shapes[0].keys() | shapes[1].keys())
        problems = [k for k in keys if shapes[0].get(k) != shapes[1].get(k)]
    if problems:
        raise UserError(f"{a.name} and {b.name} are different networks: {'; '.join(problems)}")
    nets = jax.tree.map(lambda x, y: (1 - alpha) * np.asarray(x) + alpha * np.asarray(y), *trained)
    config = b.config.copy_and_resolve_references()
    with config.unlocked():
        config.interpolation = {"a": a.name, "b": b.name, "alpha": float(alpha)}
    return Model(b.name, config, nets, b.step, verbs=b.verbs, made_of=b.made_of)


def _trained(model: Model) -> dict[str, Any]:
    """The nets that are the model's own: those of its parts are not mixed."""
    given = parts.named(parts.arrays(model.made_of))
    return {name: net for name, net in model.nets.items() if name not in given}


def _network(model: Model) -> ConfigDict:
    """The part of a model's config that says what its verbs compute."""
    config = model.config
    parts = {"family": config.family, "scale": config.get("data", {}).get("scale")}
    return ConfigDict({**parts, "generator": config.model.get("generator", config.model)})
