"""RDN: counts, the block, and parity with PyTorch under three ports' keys, both ways."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from support.referees import pytorch

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.models.rdn import make_task, verbs
from jaxgen.models.rdn.convert import LAYOUTS
from jaxgen.models.rdn.generator import RDN
from jaxgen.models.rdn.task import make_generator
from jaxgen.nn.rdb import ResidualDenseBlock
from jaxgen.nn.resample import upsample_bicubic

CONFIG = f"{REPOSITORY}/configs/rdn.py"
BY_NAME = {layout.name: layout for layout in LAYOUTS}
SMALL = {"features": 6, "blocks": 2, "layers": 3, "growth": 4, "up_features": 5}


def shapes(module, size=8, channels=3):
    picture = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), picture)


def count(module, **kwargs):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(module, **kwargs)))


def filled(module, seed=0):
    """Variables of values that let every layer matter: He's, and biases that aren't zero."""
    rng = np.random.default_rng(seed)

    def values(leaf):
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        return jnp.asarray(rng.normal(0, (1.5 / fan_in) ** 0.5, leaf.shape), jnp.float32)

    return jax.tree.map(values, shapes(module))


@pytest.mark.parametrize(("scale", "expected"), [(2, 22_123_395), (3, 22_308_035), (4, 22_271_107)])
def test_paper_counts(scale, expected):
    config = configs.load(f"{CONFIG}:paper", {"data.scale": scale})
    assert count(make_generator(config)) == expected


def test_block_count():
    assert count(ResidualDenseBlock(), channels=64) == 1_364_544


@pytest.mark.parametrize(("variant", "expected"), [("c3d10", 2_792_067), ("c6d20", 16_520_067)])
def test_smaller_sizes(variant, expected):
    assert count(make_generator(configs.load(f"{CONFIG}:{variant}"))) == expected


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_scale_is_the_scale(scale):
    module = RDN(scale, **SMALL)
    output, _ = jax.eval_shape(
        module.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct((2, 5, 7, 3), "float32")
    )
    assert output.shape == (2, 5 * scale, 7 * scale, 3)


def test_unknown_scale_is_refused():
    with pytest.raises(UserError, match="RDN upscales by 2, 3, 4 or 8"):
        make_generator(configs.load(CONFIG, {"data.scale": 6}))


def test_a_gan_stage_is_refused():
    with pytest.raises(UserError, match="no GAN stage"):
        make_task(configs.load(CONFIG, {"model.pretrain_steps": 100}))


def test_remat_changes_nothing_but_memory():
    x = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3), minval=-1.0)
    sizes = {**SMALL, "blocks": 1, "layers": 2}
    plain, again = (RDN(2, **sizes, remat=remat) for remat in (False, True))
    variables = filled(plain)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes(again))

    def gradient(module):
        loss = jax.jit(jax.grad(lambda v: jnp.square(module.apply(v, x)).mean()))
        return loss(variables)

    for a, b in zip(*map(jax.tree.leaves, (gradient(plain), gradient(again))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_skip_starts_at_the_bicubic_picture():
    module = RDN(3, **SMALL, skip=True)
    x = jax.random.uniform(jax.random.key(1), (1, 6, 6, 3), minval=-1.0)
    y, _ = jax.jit(module.init_with_output)(jax.random.key(0), x)
    np.testing.assert_allclose(y, jax.jit(partial(upsample_bicubic, r=3))(x), atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_radius_is_exact(scale):
    """A change in one input pixel moves the output up to the radius and no further."""
    module = RDN(scale, **{**SMALL, "blocks": 1, "layers": 1})
    radius = module.radius()
    side = 2 * radius + 5
    middle = side // 2
    # Positive kernels: nothing cancels, so that what can be reached is reached.
    variables = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.3 if leaf.ndim > 1 else 0.0), shapes(module)
    )
    output = jax.jit(module.apply)
    black = jnp.full((1, side, side, 3), -1.0)
    change = output(variables, black.at[0, middle, middle].set(1.0)) - output(variables, black)
    rows = np.flatnonzero(np.abs(np.asarray(change[0])).max(axis=(1, 2)))
    assert max(middle - rows.min() // scale, rows.max() // scale - middle) == radius


# ---------------------------------------------------------------------- against PyTorch


def torch_conv(torch, tensors, key, x):
    kernel, bias = (torch.from_numpy(tensors[f"{key}.{part}"]) for part in ("weight", "bias"))
    return torch.nn.functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)


def torch_rdn(torch, tensors, keys, sizes, x):
    """RDN of the paper's figure 2 from a state dict; `keys` names its parts. x NCHW."""
    first = torch_conv(torch, tensors, keys["first"], x)
    y = torch_conv(torch, tensors, keys["second"], first)
    outputs = []
    for b in range(sizes["blocks"]):
        dense = [y]
        for c in range(sizes["layers"]):
            key = keys["layer"].format(b, c)
            dense.append(torch.relu(torch_conv(torch, tensors, key, torch.cat(dense, 1))))
        y = y + torch_conv(torch, tensors, keys["fusion"].format(b), torch.cat(dense, 1))
        outputs.append(y)
    y = torch_conv(torch, tensors, keys["fusions"] + ".0", torch.cat(outputs, 1))
    y = first + torch_conv(torch, tensors, keys["fusions"] + ".1", y)
    factors = [3] if sizes["scale"] == 3 else [2] * {2: 1, 4: 2}[sizes["scale"]]
    for i, factor in enumerate(factors):
        y = torch_conv(torch, tensors, f"{keys['up']}.{2 * i}", y)
        y = torch.nn.functional.pixel_shuffle(y, factor)
    last = keys["last"].format(2 * len(factors))
    return torch_conv(torch, tensors, last, y)


LOWER = {
    "first": "sfe1",
    "second": "sfe2",
    "layer": "rdbs.{}.layers.{}.conv",
    "fusion": "rdbs.{}.lff",
    "fusions": "gff",
    "up": "upscale",
    "last": "output",
}
KEYS = {
    "RDN-pytorch RDN": LOWER,
    "MMEditing RDN": {part: f"generator.{key}" for part, key in LOWER.items()},
    "EDSR-PyTorch RDN": {
        "first": "SFENet1",
        "second": "SFENet2",
        "layer": "RDBs.{}.convs.{}.conv.0",
        "fusion": "RDBs.{}.LFF",
        "fusions": "GFF",
        "up": "UPNet",
        "last": "UPNet.{}",
    },
}


def torch_state(keys, sizes, seed=0):
    """A random state dict of a port, in PyTorch's layout."""
    g0, g, up = sizes["features"], sizes["growth"], sizes["up_features"]
    layers, blocks = sizes["layers"], sizes["blocks"]
    convs = {keys["first"]: (g0, 3, 3), keys["second"]: (g0, g0, 3)}
    for b in range(blocks):
        for c in range(layers):
            convs[keys["layer"].format(b, c)] = (g, g0 + c * g, 3)
        convs[keys["fusion"].format(b)] = (g0, g0 + layers * g, 1)
    convs |= {keys["fusions"] + ".0": (g0, blocks * g0, 1), keys["fusions"] + ".1": (g0, g0, 3)}
    factors = [3] if sizes["scale"] == 3 else [2] * {2: 1, 4: 2}[sizes["scale"]]
    for i, factor in enumerate(factors):
        convs[f"{keys['up']}.{2 * i}"] = (factor**2 * up, up if i else g0, 3)
    convs[keys["last"].format(2 * len(factors))] = (3, up, 3)
    rng = np.random.default_rng(seed)
    state = {}
    for key, (out, channels, k) in convs.items():
        spread = (1.5 / (channels * k * k)) ** 0.5
        state[f"{key}.weight"] = rng.normal(0, spread, (out, channels, k, k)).astype(np.float32)
        state[f"{key}.bias"] = rng.normal(0, 0.1, out).astype(np.float32)
    return state


def converted(layout, tensors):
    """(config, variables) of a file's tensors, as `jaxgen convert` makes them."""
    sizes = layout.sizes(tensors)
    config = layout.config(sizes)
    return config, weights.convert(tensors, layout.rules(sizes), layout.expected(config))


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("RDN-pytorch RDN", 2),
        ("RDN-pytorch RDN", 3),
        ("RDN-pytorch RDN", 4),
        ("MMEditing RDN", 4),
        ("EDSR-PyTorch RDN", 2),
        ("EDSR-PyTorch RDN", 3),
        ("EDSR-PyTorch RDN", 4),
    ],
)
def test_port_is_read_computed_and_written_back(name, scale):
    torch = pytorch()
    layout, sizes = BY_NAME[name], {**SMALL, "scale": scale}
    state = torch_state(KEYS[name], sizes)
    value_range = 255.0 if name.startswith("EDSR") else 1.0
    assert layout.sizes(state) == {**sizes, "value_range": value_range}
    for other in LAYOUTS:
        assert other is layout or other.sizes(state) is None
    config, variables = converted(layout, state)
    x = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    theirs = torch_rdn(torch, state, KEYS[name], sizes, x * value_range).numpy() / value_range
    picture = jnp.asarray(x.numpy().transpose(0, 2, 3, 1)) * 2 - 1
    ours = jax.jit(verbs(config)["upscale"].apply)({"g": variables}, picture, None)
    ours = (np.asarray(ours) + 1) / 2
    ours = ours.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)
    back = weights.to_torch(variables, layout.rules(layout.read(config)))
    assert back.keys() == state.keys()
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, state[key], err_msg=key)


def test_one_missing_key_is_named():
    layout = BY_NAME["EDSR-PyTorch RDN"]
    state = torch_state(KEYS[layout.name], {**SMALL, "scale": 4})
    del state["RDBs.1.convs.2.conv.0.weight"]
    with pytest.raises(UserError, match=r"1 missing: RDBs\.1\.convs\.2\.conv\.0\.weight"):
        converted(layout, state)


def test_ports_write_what_they_can_hold():
    """The range tells the two kinds of ports apart; none has the bicubic skip."""
    paper = configs.load(f"{CONFIG}:paper")
    readers = {layout.name for layout in LAYOUTS if layout.read(paper)}
    assert readers == {"RDN-pytorch RDN", "MMEditing RDN"}
    paper.model.generator.value_range = 255.0
    assert {layout.name for layout in LAYOUTS if layout.read(paper)} == {"EDSR-PyTorch RDN"}
    assert not any(layout.read(configs.load(CONFIG)) for layout in LAYOUTS)
