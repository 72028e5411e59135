"""The Inception-v3 of the FID (Szegedy et al. 2015, arXiv 1512.00567), frozen, NHWC.

Not the Inception-v3 of classifier libraries: the Fréchet Inception Distance (Heusel et al. 2017)
and the Inception Score (Salimans et al. 2016) are defined by one TensorFlow graph of December 2015
with 1008 classes and pools of its own (`jaxgen.encoders.inception_layout`), and numbers of another
network are not comparable. Its weights go around as pt_inception-2015-12-05-6726825d.pth.

Pictures must reach it as they did in the code that one compares with: `prepare` has the three
ways. Variables are {"params": {layer: ...}, "batch_stats": {layer: ...}}, their shapes tell the
width.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from PIL import Image

from jaxgen import weights as weights_lib
from jaxgen.encoders import files
from jaxgen.encoders.inception_layout import (
    AVERAGE,
    CLASSES,
    INPUT,
    LAYERS,
    MAXIMUM,
    TAPS,
    Mixed,
    conv_names,
    torch_rules,
)
from jaxgen.errors import UserError
from jaxgen.nn.conv import conv2d
from jaxgen.nn.inception import MAX_POOL, Step, widened

Variables = Mapping[str, Any]

SIDE = 299
RESIZES = ("tf1", "torch", "clean")
FEATURES = (*TAPS, "logits_unbiased", "logits")
ARCH = "inception_v3_fid"
EPSILON = 1e-3  # of BatchNorm


class Inception(nn.Module):
    """The network in inference: BatchNorm uses its running statistics.

    Attributes:
      width: factor on the channels of every layer; a multiple of 1/16.
      dtype: of the computation. Metrics need float32: bfloat16 moves the FID.
    """

    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, features: Sequence[str]) -> dict[str, jax.Array]:
        """The named features; see `features`. x (b, h, w, 3), through `prepare`."""
        taken: dict[str, jax.Array] = {}
        depth = [TAPS.get(name, TAPS["2048"]) for name in features]
        last = max(depth, key=list(LAYERS).index)
        for name, kind in LAYERS.items():
            x = self._layer(name, kind, x)
            for tap, layer in TAPS.items():
                if layer == name:
                    taken[tap] = x.astype(jnp.float32).mean(axis=(1, 2))  # (b, c)
            if name == last:
                break
        if set(features) & {"logits_unbiased", "logits"}:
            shape = (taken["2048"].shape[-1], CLASSES)
            kernel, bias = _Head(shape, name="classifier")()
            taken["logits_unbiased"] = taken["2048"] @ kernel
            taken["logits"] = taken["logits_unbiased"] + bias[None]
        return {name: taken[name] for name in features}

    def _layer(self, name: str, kind: Step | str | Mixed, x: jax.Array) -> jax.Array:
        if isinstance(kind, Mixed):
            return _MixedLayer(kind, self.width, self.dtype, name=name)(x)
        if isinstance(kind, Step):
            return _ConvNorm(kind, self.width, self.dtype, name=name)(x)
        return _pool(x, kind)


class _MixedLayer(nn.Module):
    mixed: Mixed
    width: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = {INPUT: x}
        for name, (source, step) in self.mixed.convs.items():
            if source not in outputs:
                outputs[source] = _pool(x, source)
            conv = _ConvNorm(step, self.width, self.dtype, name=name)
            outputs[name] = conv(outputs[source])
        ends = [_pool(x, e) if e == MAX_POOL else outputs[e] for e in self.mixed.joined]
        return jnp.concatenate(ends, axis=-1)


class _ConvNorm(nn.Module):
    """Convolution, BatchNorm by its statistics, ReLU; the parameters of `nn.inception.ConvNorm`."""

    step: Step
    width: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        step = self.step
        size = (step.kernel,) * 2 if isinstance(step.kernel, int) else step.kernel
        shape = (*size, x.shape[-1], widened(step.channels, self.width))
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape)
        y = _convolve(x.astype(self.dtype), kernel.astype(self.dtype), step)
        norm = nn.BatchNorm(True, epsilon=EPSILON, dtype=self.dtype, name="norm")
        return nn.relu(norm(y))


def _convolve(x: jax.Array, kernel: jax.Array, step: Step) -> jax.Array:
    """Always XLA's convolution, but for 1x1: Winograd's is slower for these shapes."""
    if kernel.shape[:2] == (1, 1):
        return conv2d(x, kernel)
    same = step.padding == "SAME"
    # XLA's unpadded convolution takes three times as long on CPUs as the padded one with its edge
    # cut off: 8 x 73 x 73, 80 -> 192: 309 and 121 ms.
    cut = not same and step.stride == 1 and jax.default_backend() == "cpu"
    pads = [(k // 2, k // 2) if same or cut else (0, 0) for k in kernel.shape[:2]]
    y = jax.lax.conv_general_dilated(
        x, kernel, (step.stride,) * 2, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y[:, 1:-1, 1:-1] if cut else y


class _Head(nn.Module):
    """The classifier's parameters: it is applied with and without its bias."""

    shape: tuple[int, int]

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), self.shape)
        return kernel, self.param("bias", nn.initializers.zeros, self.shape[1:])


def _pool(x: jax.Array, kind: str) -> jax.Array:
    """3x3, by rows and then by columns: XLA's reduce_window is slow on CPUs."""
    if kind == MAX_POOL:
        return _threes(_threes(x, 1, 2, jnp.maximum), 2, 2, jnp.maximum)
    empty = -jnp.inf if kind == MAXIMUM else 0.0
    x_padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=empty)
    if kind == MAXIMUM:
        return _threes(_threes(x_padded, 1, 1, jnp.maximum), 2, 1, jnp.maximum)
    assert kind == AVERAGE, kind
    # Counts are one row and one column: a reduce_window of ones would be folded for seconds.
    rows, columns = (jnp.asarray(_present(n)) for n in x.shape[1:3])
    counts = rows.reshape(1, -1, 1, 1) * columns.reshape(1, 1, -1, 1)
    return _threes(_threes(x_padded, 1, 1, jnp.add), 2, 1, jnp.add) / counts.astype(x.dtype)


def _threes(x: jax.Array, axis: int, stride: int, combine: Any) -> jax.Array:
    """Every `stride`-th three neighbours along an axis, combined; no padding."""
    count = (x.shape[axis] - 3) // stride + 1
    one, two, three = (
        jax.lax.slice_in_dim(x, i, i + stride * (count - 1) + 1, stride, axis) for i in range(3)
    )
    return combine(combine(one, two), three)


def _present(n: int) -> np.ndarray:
    """How many of three neighbours in a row of n exist, float32 (n,)."""
    places = np.arange(n)
    return (1 + (places > 0) + (places < n - 1)).astype(np.float32)


def features(
    variables: Variables, x: jax.Array, names: Sequence[str], dtype: Any = jnp.float32
) -> dict[str, jax.Array]:
    """Named features of prepared pictures.

    Args:
      variables: from `load`, `from_torch` or `init_variables`.
      x: (b, 299, 299, 3), through `prepare`. (Other sizes of 75 pixels and more are computed too.)
      names: of `FEATURES`: "64", "192", "768", "2048" by their number of channels, each the mean
        over the pixels; "logits"; "logits_unbiased", without the classifier's bias, of which the
        Inception Score is.
      dtype: of the computation.

    Returns: {name: (b, channels) float32}, in the order of `names`.
    """
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise UserError(f"no Inception features {unknown[0]!r}; choose from {', '.join(FEATURES)}")
    net = Inception(_width(variables["params"]), dtype)
    with jax.default_matmul_precision("highest"):  # TPUs multiply in bfloat16 otherwise
        taken: Any = net.apply(dict(variables), x, tuple(names))
    return taken


# ------------------------------------------------------------------------------ pictures as input


def prepare(pictures: Any, resize: str = "tf1") -> Any:
    """uint8 pictures of one size -> what the network sees, as one of the FID's programs does it.

    "tf1": as the original graph, and torch-fidelity: TensorFlow 1's bilinear interpolation, whose
      pixel i samples i * in / out; then (v - 128) / 128.
    "torch": as pytorch-fid: bilinear with half-pixel centres; then 2 * v / 255 - 1.
    "clean": as clean-fid: Pillow's antialiased bicubic filter in float, cut to 0..255; then
      (v - 128) / 128. Computed on the host: not to be traced.
    Neither of the first two averages pixels when it shrinks a picture.

    Args: pictures: uint8 (b, h, w, 3), NumPy (computed by NumPy) or JAX.

    Returns: float32 (b, 299, 299, 3), NumPy or JAX as the pictures.

    Raises:
      UserError: another `resize`; a dtype other than uint8. Generated pictures must be rounded to
        8 bits first, as the reference is.
    """
    if resize not in RESIZES:
        raise UserError(f"no such resize {resize!r}; choose from {', '.join(RESIZES)}")
    if pictures.dtype != np.uint8:
        raise UserError(f"pictures for metrics must be uint8 (0 to 255), not {pictures.dtype}")
    xp: Any = jnp if isinstance(pictures, jax.Array) else np
    if resize == "clean":
        x = np.stack([_antialiased(picture) for picture in np.asarray(pictures)])
        return (xp.asarray(x) - np.float32(128)) / np.float32(128)
    x = xp.asarray(pictures, np.float32)
    if resize == "tf1":
        return (_bilinear(x, _tf1_places, xp) - np.float32(128)) / np.float32(128)
    x = _bilinear(x / np.float32(255), _half_pixel_places, xp)
    return np.float32(2) * x - np.float32(1)


def _antialiased(picture: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (299, 299, 3) in [0, 255], each channel without rounding."""
    channels = [
        np.asarray(
            Image.fromarray(picture[..., c].astype(np.float32)).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            )
        )
        for c in range(3)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 255)


def _tf1_places(n: int) -> np.ndarray:
    return np.arange(SIDE, dtype=np.float32) * np.float32(n / SIDE)


def _half_pixel_places(n: int) -> np.ndarray:
    places = (np.arange(SIDE, dtype=np.float32) + np.float32(0.5)) * np.float32(n / SIDE)
    return np.maximum(places - np.float32(0.5), 0)


def _bilinear(x: Any, places: Any, xp: Any) -> Any:
    """Samples (b, h, w, 3) at places(h) x places(w), float32 positions as both programs have."""
    for axis in (2, 1):
        n = x.shape[axis]
        at = places(n)
        low = np.minimum(at.astype(np.int32), n - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = SIDE
        share = (at - low.astype(np.float32)).reshape(shape)
        first = xp.take(x, low, axis=axis)
        x = first + (xp.take(x, np.minimum(low + 1, n - 1), axis=axis) - first) * share
    return x


# ---------------------------------------------------------------------------------------- weights


def expected_params(width: float = 1.0) -> dict[str, Any]:
    """All variables as shapes and dtypes, {"params", "batch_stats"}; computes nothing."""
    # A copy: the cache's own tree is not for changing.
    return jax.tree.map(lambda leaf: leaf, _traced(width))


@functools.cache
def _traced(width: float) -> Any:
    net = Inception(width)
    x = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, ("logits",)), x)


def init_variables(seed: int = 0, width: float = 1.0) -> dict[str, Any]:
    """Random weights, for tests: He-normal kernels, statistics and gains near those of BatchNorm.

    NumPy's default generator draws the layers in the order of computation, each its kernel, then
    bias, gain, mean and variance: the same seed is the same network everywhere. A distance by it is
    none of Inception's.
    """
    rng = np.random.default_rng(seed)
    flat = weights_lib.flatten(expected_params(max(1, round(16 * width)) / 16))
    drawn = {}
    for path in (*conv_names(), "classifier"):
        kernel = flat[f"params/{path}/kernel"].shape
        std = np.float32(np.sqrt((1.0 if path == "classifier" else 2.0) / np.prod(kernel[:-1])))
        drawn[f"params/{path}/kernel"] = std * rng.standard_normal(kernel, dtype=np.float32)
        n = kernel[-1:]
        small = 0.1 * rng.standard_normal(n, dtype=np.float32)
        if path == "classifier":
            drawn[f"params/{path}/bias"] = small
            continue
        drawn[f"params/{path}/norm/bias"] = small
        drawn[f"params/{path}/norm/scale"] = 0.7 + 0.6 * rng.random(n, dtype=np.float32)
        mean = 0.1 * rng.standard_normal(n, dtype=np.float32)
        drawn[f"batch_stats/{path}/norm/mean"] = mean
        drawn[f"batch_stats/{path}/norm/var"] = 0.7 + 0.6 * rng.random(n, dtype=np.float32)
    return traverse_util.unflatten_dict(drawn, sep="/")


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """State dict of pt_inception-2015-12-05 -> variables.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    first = tensors.get("Conv2d_1a_3x3.conv.weight")
    width = first.shape[0] / 32 if first is not None and first.ndim == 4 else 1.0
    return weights_lib.convert(tensors, torch_rules(), expected_params(width))


def load(path: str | Path) -> dict[str, Any]:
    """Variables from the published file (.pth, or saved again as .safetensors), or one of ours.

    Raises:
      UserError: no such file, or not these weights; says where to get them.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(
            f"no Inception weights at {path}: get pt_inception-2015-12-05-6726825d.pth, which "
            "pytorch-fid's page of releases on GitHub has, or leave the option out for distances "
            "by a random network"
        )
    tensors = weights_lib.read_tensors(path)
    own = files.own_tensors(tensors, ARCH)
    if own is None:
        if "Conv2d_1a_3x3.conv.weight" not in tensors:
            raise UserError(
                f"{path} is not the FID's Inception: it has no Conv2d_1a_3x3.conv.weight; needed "
                "is pt_inception-2015-12-05-6726825d.pth"
            )
        return from_torch(tensors)
    own_tree = traverse_util.unflatten_dict(own, sep="/").get("params", {})
    return files.checked_tree(own, expected_params(_width(own_tree)))


def _width(params: Mapping[str, Any]) -> float:
    first = params.get("conv2d_1a", {}).get("kernel")
    return 1.0 if first is None else first.shape[-1] / 32
