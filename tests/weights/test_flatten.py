"""Trees as flat dicts: as Flax flattens them, without importing Flax."""

import numpy as np
import pytest
from flax import traverse_util
from flax.core import freeze

from jaxgen.weights.keymap import flatten, unflatten

TREES = [
    {},
    {"a": 1},
    {"a": {}, "b": {"c": {}, "d": 0}},
    {"g": {"params": {"z": np.zeros(2), "a": (1, 2)}, "batch_stats": {}}, "d": [3]},
    freeze({"g": {"params": {"kernel": 1.0}}}),
]


@pytest.mark.parametrize("tree", TREES)
def test_trees_are_flattened_as_by_flax(tree):
    theirs = traverse_util.flatten_dict(dict(tree), sep="/")
    ours = flatten(tree)
    assert list(ours) == list(theirs)
    assert all(ours[path] is theirs[path] for path in theirs)
    assert unflatten(ours) == traverse_util.unflatten_dict(theirs, sep="/")
