"""LPIPS v0.1 (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", CVPR 2018, arXiv 1801.03924): how different two pictures look, 0 for equal ones.

Both pictures go through a classification network, the trunk; at five or seven depths the features
are normalised over channels, and their squared difference is weighted per channel by a linear
head that was fitted to human judgements. A distance is only comparable with others of the same
trunk; papers on super-resolution mostly give `alex`.

No weights come with this package: trunk and heads are read from a user's files (`load`). The
heads' files of v0.0 look the same and belong to a network without input scaling: take v0.1's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import weights as weights_lib
from jaxgen.encoders import alexnet, files, squeezenet, vgg
from jaxgen.errors import UserError

# {"trunk": parameters of the encoder, "heads": {"lin0": (c,), ...}}
Params = Mapping[str, Mapping[str, Any]]

# Layers compared, with their channels; all after the ReLU.
TAPS = {
    "alex": {"conv1": 64, "conv2": 192, "conv3": 384, "conv4": 256, "conv5": 256},
    "vgg": {"conv1_2": 64, "conv2_2": 128, "conv3_3": 256, "conv4_3": 512, "conv5_3": 512},
    "squeeze": {
        "conv1": 64, "fire3": 128, "fire5": 256, "fire6": 384, "fire7": 384, "fire8": 512,
        "fire9": 512,
    },
}  # fmt: skip
# Of RGB in [-1, 1]: ImageNet's mean and standard deviation as LPIPS rounds them.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
_EPS = 1e-10

_TRUNKS = {
    "alex": ("AlexNet", "alexnet-owt-7be5be79.pth", "alexnet"),
    "vgg": ("VGG16", "vgg16-397923af.pth", "vgg16"),
    "squeeze": ("SqueezeNet 1.1", "squeezenet1_1-b8a52dc0.pth", "squeezenet1_1"),
}


# ---------------------------------------------------------------------------------- the distance


def lpips(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """LPIPS of pairs; a pure function for `jax.jit`, differentiable, symmetric in x and y.

    Args:
      params: from `load` or `from_torch`; the trunk is seen from them.
      x, y: (b, h, w, 3) RGB in [-1, 1].

    Returns: (b,) float32, not negative; for equal pictures 0 up to rounding, below 1e-12.

    Raises:
      UserError: shapes differ, or pictures too small for the trunk (sides below 31 pixels for alex,
        16 for vgg, 17 for squeeze).
    """
    if x.shape != y.shape or x.ndim != 4 or x.shape[3] != 3:
        raise UserError(f"LPIPS needs two (b, h, w, 3) arrays alike, not {x.shape} and {y.shape}")
    net = trunk_of(params["trunk"])
    # A metric is the same number everywhere: GPUs and TPUs would round the factors to fewer bits.
    with jax.default_matmul_precision("float32"):
        taken = _features(net, params["trunk"], _scaled(jnp.concatenate([x, y])))
        total = jnp.zeros(x.shape[0], jnp.float32)
        for index, layer in enumerate(TAPS[net]):
            a, b = jnp.split(_normalised(taken[layer]), 2)  # (b, h', w', c)
            head = jnp.asarray(params["heads"][f"lin{index}"], jnp.float32)
            # The mean over pixels and the head are linear: in this order nothing large is kept.
            total += jnp.mean(jnp.square(a - b), axis=(1, 2)) @ head
    return total


def picture_distance(params: Params) -> Callable[[np.ndarray, np.ndarray], float]:
    """LPIPS of two uint8 pictures, (h, w, 3) or gray (h, w), on the host; compiled per shape."""
    params = jax.device_put(params)
    compiled = jax.jit(lpips)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(compiled(params, _batch(a), _batch(b))[0])

    return distance


def load_distance(
    *paths: str | os.PathLike[str],
) -> tuple[str, Callable[[np.ndarray, np.ndarray], float]]:
    """(the trunk's name, `picture_distance`) of files of weights; see `load`."""
    params = load(*paths)
    return trunk_of(params["trunk"]), picture_distance(params)


def _batch(picture: np.ndarray) -> np.ndarray:
    """uint8 -> (1, h, w, 3) float32 in [-1, 1]; gray as three equal channels."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    return picture[None].astype(np.float32) / 127.5 - 1.0


def trunk_of(trunk: Mapping[str, Any]) -> str:
    """Which trunk these parameters are: "alex", "vgg" or "squeeze"."""
    if "fire2" in trunk:
        return "squeeze"
    return "vgg" if "conv1_1" in trunk else "alex"


def _scaled(x: jax.Array) -> jax.Array:
    shift, scale = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, 3) for v in (SHIFT, SCALE))
    return (x.astype(jnp.float32) - shift) / scale


def _features(net: str, trunk: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    layers = tuple(TAPS[net])
    if net == "alex":
        return alexnet.features(trunk, x, layers)
    if net == "squeeze":
        return squeezenet.features(trunk, x, layers)
    return vgg.features(trunk, x, layers, before_activation=False)


def _normalised(x: jax.Array) -> jax.Array:
    """Unit length over channels; where all are zero they stay zero."""
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    # The root has no derivative at 0, and a ReLU's features can all be 0.
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return x / (length + _EPS)


# --------------------------------------------------------------------------------------- weights


def load(*paths: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the weights of LPIPS; which trunk it is, is seen from the keys and shapes.

    Args:
      paths: two files in any order, torchvision's trunk and the heads; or one that holds both,
        the state dict of a whole `lpips.LPIPS`. `.safetensors` or `.pth`; also what
        `jaxgen convert` made of them.

    Returns: {"trunk": ..., "heads": ...} for `lpips`; NumPy arrays.

    Raises:
      UserError: names the part that is missing and where it comes from, or every missing, extra
        and misshapen key, or a trunk and heads that don't belong together.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in paths:
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(f"no LPIPS weights at {path}: {_where()}")
        found = _torchvision_keys(_published(weights_lib.read_tensors(path)))
        if twice := sorted(found.keys() & tensors.keys()):
            raise UserError(
                f"{path}: {twice[0]} is in the other file too; give one trunk and one file of "
                "heads, or one file that holds both"
            )
        tensors |= found
    return from_torch(tensors)


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Trunk (torchvision's or lpips's keys) and heads, in one state dict -> parameters.

    Raises:
      UserError: see `load`.
    """
    tensors = _torchvision_keys(tensors)
    heads = [tensors[key] for key in sorted(tensors) if re.fullmatch(_HEAD_KEY, key)]
    if not any(key.startswith("features.") for key in tensors):
        raise UserError(f"no trunk of LPIPS (features.0.weight, ...) in the weights: {_where()}")
    net = _trunk_in(tensors)
    if not heads:
        raise UserError(f"no LPIPS heads (lin0.model.1.weight, ...) in the weights: {_where(net)}")
    sizes = [head.size for head in heads]
    of_heads = next((n for n, taps in TAPS.items() if list(taps.values()) == sizes), net)
    if of_heads != net:
        raise UserError(
            f"the trunk is that of LPIPS-{net}, but the heads are those of LPIPS-{of_heads}; "
            f"{_where(net)}"
        )
    params = weights_lib.convert(tensors, _rules(net), _expected(net))
    negative = [name for name, head in params["heads"].items() if np.min(head) < 0]
    if negative:
        raise UserError(f"{', '.join(negative)}: negative weights; these are no heads of LPIPS")
    return params


_HEAD_KEY = r"lin\d\.model\.1\.weight"
# (1, c, 1, 1), a 1x1 convolution to one channel, <-> (c,)
_HEAD = weights_lib.Transform(
    lambda a: a[0, :, 0, 0] if a.shape == (1, a.shape[1], 1, 1) else a,
    lambda a: a.reshape(1, -1, 1, 1),
    ndim=4,
)


def head_rules() -> list[weights_lib.Rule]:
    """Keys of the heads' files; targets lin0, lin1, ..."""
    return [weights_lib.Rule("lin{i}.model.1.weight", "lin{i}", _HEAD)]


def expected_heads(net: str) -> dict[str, Any]:
    """The heads of a trunk as shapes and dtypes."""
    channels = TAPS[net].values()
    return {f"lin{i}": jax.ShapeDtypeStruct((c,), jnp.float32) for i, c in enumerate(channels)}


def _published(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Files of ours ("alexnet/conv1/kernel", "lpips_alex/lin0") under their published keys."""
    for net, (*_, trunk) in _TRUNKS.items():
        for name, rules in ((trunk, _trunk_rules(net)), (f"lpips_{net}", head_rules())):
            own = files.own_tensors(tensors, name)
            if own is not None:
                return weights_lib.to_torch(own, rules)
    return tensors


def _torchvision_keys(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """lpips's names of the trunk as torchvision's: net.slice2.3.weight is features.3.weight."""
    return {re.sub(r"^net\.slice\d\.", "features.", key): v for key, v in tensors.items()}


def _trunk_in(tensors: Mapping[str, np.ndarray]) -> str:
    if any(".squeeze." in key for key in tensors):
        return "squeeze"
    if "features.34.weight" in tensors:
        raise UserError(f"the trunk is VGG19, but LPIPS has VGG16; {_where('vgg')}")
    first = tensors.get("features.0.weight")
    return "alex" if first is not None and first.shape[2:] == (11, 11) else "vgg"


def _trunk_rules(net: str) -> list[weights_lib.Rule]:
    if net == "vgg":
        return vgg.torch_rules("vgg16")
    return alexnet.torch_rules() if net == "alex" else squeezenet.torch_rules()


def _rules(net: str) -> list[weights_lib.Rule]:
    parts = {"trunk": _trunk_rules(net), "heads": head_rules()}
    return [
        *(
            weights_lib.Rule(r.source, r.target and f"{part}/{r.target}", r.transform)
            for part, rules in parts.items()
            for r in rules
        ),
        # A whole LPIPS has the heads once more, and SHIFT and SCALE.
        weights_lib.Rule("lins.*", None),
        weights_lib.Rule("scaling_layer.*", None),
    ]


def _expected(net: str) -> dict[str, Any]:
    trunk = {
        "alex": alexnet.expected_params,
        "vgg": lambda: vgg.expected_params("vgg16"),
        "squeeze": squeezenet.expected_params,
    }[net]()
    return {"trunk": trunk, "heads": expected_heads(net)}


def _where(net: str | None = None) -> str:
    """Where the files come from; one line."""
    nets = [net] if net else list(TAPS)
    names = ", ".join(f"{_TRUNKS[n][0]} ({_TRUNKS[n][1]})" for n in nets)
    function = _TRUNKS[nets[0]][2]
    return (
        f"it takes torchvision's {names}, on a machine with torchvision also by torch.save("
        f'torchvision.models.{function}(weights="IMAGENET1K_V1").state_dict(), "{function}.pth"), '
        f"and the heads, weights/v0.1/{nets[0]}.pth in the Python package lpips"
    )
