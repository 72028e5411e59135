"""SRGAN's published generators equal the originals, 1e-5 in float32, and go back bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import reach
from support.referees import pytorch

from jaxgen import weights
from jaxgen.models.srgan import verbs
from jaxgen.models.srgan.convert import LAYOUTS
from jaxgen.models.srgan.msrresnet import MSRResNet
from jaxgen.models.srgan.published import PublishedSRResNet
from jaxgen.runs.convert import recognise
from jaxgen.tasks.sr.task import upscale_verb

LAYOUT = {one.name: one for one in LAYOUTS}


def count(module):
    picture = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")
    variables = jax.eval_shape(module.init, jax.random.key(0), picture)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("module", "parameters"),
    [
        (PublishedSRResNet(), 1_549_462),
        (PublishedSRResNet(bias=False), 1_547_350),  # Lornatang
        (PublishedSRResNet(2, blocks=5, trunk="prelu"), 586_379),  # leftthomas
        (PublishedSRResNet(4, blocks=5, trunk="prelu"), 734_092),
        (PublishedSRResNet(8, blocks=5, trunk="prelu"), 881_805),
        (PublishedSRResNet(4, blocks=8, trunk="prelu"), 956_431),  # goldhuang
        (MSRResNet(2), 1_369_859),
        (MSRResNet(3), 1_554_499),
        (MSRResNet(4), 1_517_571),
    ],
)
def test_published_counts(module, parameters):
    assert count(module) == parameters


@pytest.mark.parametrize(
    "module",
    [
        PublishedSRResNet(4, features=4, blocks=2),
        PublishedSRResNet(2, features=4, blocks=1, edge_kernel=3, trunk="prelu"),
        MSRResNet(2, features=4, blocks=1),
        MSRResNet(3, features=4, blocks=1),
        MSRResNet(4, features=4, blocks=2),
    ],
    ids=repr,
)
def test_radius_is_how_far_a_pixel_looks(module):
    x = jnp.zeros((1, 8, 8, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    verb = upscale_verb(module, module.scale)
    assert reach.true_radius(verb, {"g": reach.lively(shapes)}) == verb.radius


# ------------------------------------------------------------------------- the originals in torch


def numbered(torch, features, bias, slopes=1):
    """Convolution, BatchNorm, PReLU, convolution, BatchNorm: a residual branch."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(features, features, 3, 1, 1, bias=bias),
        nn.BatchNorm2d(features),
        nn.PReLU(slopes),
        nn.Conv2d(features, features, 3, 1, 1, bias=bias),
        nn.BatchNorm2d(features),
    )


def up_stage(torch, features, slopes=1):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(features, 4 * features, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU(slopes)
    )


def holder(torch, **children):
    """A module with these children: what gives a key its names."""
    module = torch.nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def build(torch, layout, features, blocks, ups, norm=True, edge=9):
    """(module that holds the keys, forward in [0, 1]) of a project's generator."""
    nn = torch.nn
    paper = layout == "SRResNet"
    slopes = features if paper else 1
    lornatang = layout.startswith("Lornatang")
    first = nn.Sequential(nn.Conv2d(3, features, edge, 1, edge // 2), nn.PReLU(slopes))
    branches = [numbered(torch, features, not lornatang, slopes) for _ in range(blocks)]
    after = nn.BatchNorm2d(features) if norm else nn.PReLU()
    trunk = nn.Sequential(nn.Conv2d(features, features, 3, 1, 1, bias=not lornatang), after)
    stages = [up_stage(torch, features, slopes) for _ in range(ups)]
    last = nn.Conv2d(features, 3, edge, 1, edge // 2)
    if layout == "leftthomas SRGAN":
        names = ("conv1", "bn1", "prelu", "conv2", "bn2")
        children = {"block1": first}
        for i, branch in enumerate(branches):
            named = dict(zip(names, branch, strict=True))
            children[f"block{i + 2}"] = holder(torch, **named)
        children[f"block{blocks + 2}"] = trunk
        named = [holder(torch, conv=s[0], pixel_shuffle=s[1], prelu=s[2]) for s in stages]
        children[f"block{blocks + 3}"] = nn.Sequential(*named, last)
    elif layout == "goldhuang SRGAN-PyTorch":
        residual = {f"residual{i + 1}": holder(torch, net=b) for i, b in enumerate(branches)}
        upsample = nn.Sequential(*(holder(torch, net=s) for s in stages), last)
        children = {"conv1": first, **residual, "conv2": trunk, "upsample": upsample}
    else:
        one, two, three = (
            ("conv_block1", "conv_block2", "conv_block3")
            if layout.endswith("2022")
            else ("conv1", "conv2", "conv3")
        )
        children = {
            one: first,
            "trunk": nn.Sequential(*(holder(torch, rcb=b) for b in branches)),
            two: trunk,
            "upsampling": nn.Sequential(*(holder(torch, upsample_block=s) for s in stages)),
            three: last,
        }

    def forward(x):
        y = start = first(x)
        for branch in branches:
            y = y + branch(y)
        y = start + trunk(y)
        for stage in stages:
            y = stage(y)
        y = last(y)
        return y if lornatang or paper else (torch.tanh(y) + 1) / 2

    return holder(torch, **children), forward


def build_msr(torch, features, blocks, scale):
    nn = torch.nn

    def conv(inside, outside):
        return nn.Conv2d(inside, outside, 3, 1, 1)

    body = [
        holder(torch, conv1=conv(features, features), conv2=conv(features, features))
        for _ in range(blocks)
    ]
    factors = (2, 2) if scale == 4 else (scale,)
    ups = {f"upconv{i + 1}": conv(features, features * r * r) for i, r in enumerate(factors)}
    net = holder(
        torch,
        conv_first=conv(3, features),
        body=nn.Sequential(*body),
        **ups,
        conv_hr=conv(features, features),
        conv_last=conv(features, 3),
    )

    def forward(x):
        leaky = nn.LeakyReLU(0.1)
        y = leaky(net.conv_first(x))
        for block in body:
            y = y + block.conv2(torch.relu(block.conv1(y)))
        for up, r in zip(ups.values(), factors, strict=True):
            y = leaky(nn.functional.pixel_shuffle(up(y), r))
        y = net.conv_last(leaky(net.conv_hr(y)))
        return y + nn.functional.interpolate(x, scale_factor=scale, mode="bilinear")

    return net, forward


def randomise(torch, module, seed=0):
    """Statistics, gains and slopes away from where they start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor += 0.1 * noise if tensor.ndim == 1 else 0.05 * noise
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)


def check(torch, layout, module, forward, sizes, centred=False):
    """Recognised, equal to the original to 1e-5, and back to the same bits."""
    randomise(torch, module)
    module.eval()
    tensors = {key: value.numpy() for key, value in module.state_dict().items()}
    family, found, read = recognise(tensors)
    assert (family, found.name) == ("srgan", layout)
    assert dict(read) == sizes
    config = found.config(read)
    assert dict(found.read(config)) == sizes
    variables = weights.convert(tensors, found.rules(read), found.expected(config))

    x = np.random.default_rng(0).uniform(-1, 1, (2, 12, 10, 3)).astype(np.float32)
    image = torch.tensor(x).permute(0, 3, 1, 2)
    with torch.inference_mode():
        theirs = forward(image) if centred else 2 * forward((image + 1) / 2) - 1
    theirs = theirs.permute(0, 2, 3, 1).numpy()
    ours = jax.jit(verbs(config)["upscale"].apply)({"g": variables}, x, None)
    assert ours.shape == theirs.shape == (2, 12 * sizes["scale"], 10 * sizes["scale"], 3)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()

    back = weights.to_torch(variables, found.rules(read))
    kept = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    assert back.keys() == kept.keys()
    assert all(back[key].tobytes() == value.tobytes() for key, value in kept.items())
    # PyTorch takes them as they are, without the counts.
    module.load_state_dict({key: torch.tensor(value) for key, value in back.items()})


@pytest.mark.parametrize(
    ("layout", "blocks", "ups", "norm"),
    [
        ("leftthomas SRGAN", 5, 2, False),
        ("leftthomas SRGAN", 5, 3, True),
        ("goldhuang SRGAN-PyTorch", 3, 2, False),
        ("Lornatang SRGAN-PyTorch", 3, 1, True),
        ("Lornatang SRGAN-PyTorch 2022", 2, 2, True),
        ("SRResNet", 2, 2, True),
    ],
)
def test_parity_of_the_paper_s_kind(layout, blocks, ups, norm):
    torch = pytorch()
    module, forward = build(torch, layout, 8, blocks, ups, norm)
    sizes = {"features": 8, "blocks": blocks, "edge_kernel": 9, "scale": 2**ups}
    paper = layout == "SRResNet"
    if not paper:
        sizes |= {"trunk": "norm" if norm else "prelu", "bias": "Lornatang" not in layout}
    check(torch, layout, module, forward, sizes, centred=paper)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parity_of_msrresnet(scale):
    torch = pytorch()
    module, forward = build_msr(torch, 8, 2, scale)
    sizes = {"features": 8, "blocks": 2, "scale": scale}
    check(torch, "BasicSR MSRResNet", module, forward, sizes)


def test_msrresnet_equals_basicsr_s_arrays(fixtures_dir):
    with np.load(fixtures_dir / "basicsr_msrresnet_x4.npz") as file:
        tensors = {k.removeprefix("sd:"): file[k] for k in file.files if k.startswith("sd:")}
        x, y = file["x"].transpose(0, 2, 3, 1), file["y"].transpose(0, 2, 3, 1)
    layout = LAYOUT["BasicSR MSRResNet"]
    sizes = layout.sizes(tensors)
    assert sizes == {"features": 16, "blocks": 2, "scale": 4}
    config = layout.config(sizes)
    variables = weights.convert(tensors, layout.rules(sizes), layout.expected(config))
    ours = (np.asarray(verbs(config)["upscale"].apply({"g": variables}, 2 * x - 1, None)) + 1) / 2
    assert np.abs(ours - y).max() <= 1e-5 * np.abs(y).max()


def test_only_the_paper_s_network_is_written_as_it():
    """SRResNet with other settings, and networks of one layout, have no other's keys."""
    published, paper = LAYOUT["leftthomas SRGAN"], LAYOUT["SRResNet"]
    sizes = {"features": 8, "blocks": 1, "edge_kernel": 9, "scale": 2}
    config = paper.config(sizes)
    assert paper.read(config) == sizes
    assert published.read(config) is None
    for change in ({"norm": False}, {"skip": True}, {"tail": "direct"}, {"output": "tanh"}):
        config = paper.config(sizes)
        config.model.generator.update(change)
        assert paper.read(config) is None, change
    config = published.config({**sizes, "trunk": "prelu", "bias": True})
    assert paper.read(config) is None
    assert LAYOUT["Lornatang SRGAN-PyTorch"].read(config) is None
