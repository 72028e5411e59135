"""Random weights of LPIPS's trunks and heads, named as torchvision and lpips name them."""

import functools

import numpy as np

from jaxgen import weights
from jaxgen.encoders import lpips


def random_heads(net):
    rng = np.random.default_rng(1)
    return {
        f"lin{i}.model.1.weight": rng.uniform(0, 1, (1, c, 1, 1)).astype(np.float32)
        for i, c in enumerate(lpips.TAPS[net].values())
    }


@functools.cache
def random_trunk(net):
    """As `trunk_state`, without torch."""
    rng, state = np.random.default_rng(0), {}
    rules = {rule.target: rule for rule in lpips._rules(net) if rule.target}
    for path, leaf in weights.flatten(lpips._expected(net)["trunk"]).items():
        std = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) == 4 else 0.1
        rule = rules[f"trunk/{path}"]
        state[rule.source] = rule.transform.to_torch(
            std * rng.standard_normal(leaf.shape, dtype=np.float32)
        ).astype(np.float32)
    return state
