"""What converters share: how many layers the keys have, and the rules of a BatchNorm."""

import jax
import numpy as np
import pytest

from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models.dfgan.convert import LAYOUTS
from jaxgen.weights.layout import NORM_COUNTS, count, norm_rules

KEYS = dict.fromkeys(
    ("body.0.conv1.weight", "body.2.conv1.weight", "body.7.bias", "up.1.weight", "up.10.weight",
     "rows.0.layers.4.weight", "rows.3.layers.1.weight", "x.body.9.conv1.weight"),
    np.zeros(1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("template", "field", "found"),
    [
        ("body.{i}.", "i", 8),
        ("body.{i}.conv1.", "i", 3),  # 1 is missing
        ("up.{i}.weight", "i", 11),
        ("bod{i}", "i", 0),
        ("rows.{i}.layers.{layer}.", "i", 4),
        ("rows.{i}.layers.{layer}.", "layer", 5),
    ],
)
def test_count_is_one_more_than_the_largest_number(template, field, found):
    assert count(KEYS, template, field) == found


def test_norm_rules_read_a_batch_norm():
    torch = {f"bn1.{n}": np.full(4, i, np.float32) for i, n in enumerate(("weight", "bias"))}
    torch |= {f"bn1.running_{n}": np.full(4, i, np.float32) for i, n in ((2, "mean"), (3, "var"))}
    shape = jax.ShapeDtypeStruct((4,), np.float32)
    expected = {
        "params": {"norm_1": {"scale": shape, "bias": shape}},
        "batch_stats": {"norm_1": {"mean": shape, "var": shape}},
    }
    rules = [NORM_COUNTS, *norm_rules("bn{i}", "norm_{i}")]
    batches = {"bn1.num_batches_tracked": np.asarray(7)}
    tree = weights.flatten(weights.convert({**torch, **batches}, rules, expected))
    assert [float(tree[path][0]) for path in (
        "params/norm_1/scale", "params/norm_1/bias", "batch_stats/norm_1/mean",
        "batch_stats/norm_1/var",
    )] == [0, 1, 2, 3]  # fmt: skip


def test_a_generator_with_one_layer_missing_is_known_and_the_layer_named():
    """The number of its blocks is not that of those before the missing one."""
    layout = LAYOUTS[0]
    sizes = {"size": 32, "features": 2, "z_size": 3, "text_width": 5}
    expected = layout.expected(layout.config(sizes))
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), expected)
    tensors = weights.to_torch(zeros, layout.rules(sizes))
    del tensors["GBlocks.1.c1.weight"]
    assert layout.sizes(tensors) == sizes
    with pytest.raises(UserError, match=r"GBlocks\.1\.c1\.weight"):
        weights.convert(tensors, layout.rules(sizes), expected)
