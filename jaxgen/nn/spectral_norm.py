"""Spectral normalisation: layers whose kernels are divided by their largest singular value.

Miyato et al., "Spectral Normalization for GANs", ICLR 2018, section 2.1 and algorithm 1. The
singular vectors are estimated by one step of power iteration per training pass and kept in the
collection "spectral", so that a discriminator's state is {"params": ..., "spectral": ...}. As in
PyTorch's `torch.nn.utils.spectral_norm`, a convolution's kernel counts as the matrix
(out, in * height * width), evaluation uses the stored vectors as they are, and gradients flow
through sigma = u^T W v but not into u and v.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxgen.nn.conv import conv2d
from jaxgen.weights.keymap import CONV, DENSE, NONE, Rule, Transform

COLLECTION = "spectral"
EPS = 1e-12


def normalize(
    kernel: jax.Array, u: jax.Array, v: jax.Array, steps: int = 0
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Divides `kernel` by u^T W v after `steps` of power iteration; float32 whatever comes in.

    Args:
      kernel: (..., n), HWIO or (in, out); W is its matrix (n, the rest).
      u: (n,) left singular vector. v: (...), shaped like one output's part of the kernel.
      steps: v <- W^T u / |.|, u <- W v / |.|, this often (algorithm 1).

    Returns: the kernel divided, u, v.
    """
    matrix = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])  # (in, out): W^T
    u, flat = u.astype(jnp.float32), v.astype(jnp.float32).reshape(-1)
    constant = jax.lax.stop_gradient(matrix)
    for _ in range(steps):
        flat = _unit(_dot(constant, u))
        u = _unit(_dot(flat, constant))
    sigma = _dot(_dot(flat, matrix), u)
    return kernel.astype(jnp.float32) / sigma, u, flat.reshape(v.shape)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    # These are small; bfloat16 passes of accelerators would cost digits of sigma.
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x), EPS)


def start_tree(rng: jax.Array, params: Any) -> dict[str, dict[str, jax.Array]]:
    """Random u and v for each kernel in a net's parameters, by its path; for `normalize_tree`."""
    found = {}
    for i, (path, kernel) in enumerate(_kernels(params).items()):
        u_rng, v_rng = jax.random.split(jax.random.fold_in(rng, i))
        found[path] = {
            "u": _unit(jax.random.normal(u_rng, kernel.shape[-1:])),
            "v": _unit(jax.random.normal(v_rng, kernel.shape[:-1])),
        }
    return found


def normalize_tree(
    params: Any, vectors: dict[str, dict[str, jax.Array]], steps: int = 1
) -> tuple[Any, dict[str, dict[str, jax.Array]]]:
    """A net's parameters with all kernels normalised, and the new vectors.

    For networks whose modules know nothing of it. Kernels are the arrays named "kernel", of dense
    layers and convolutions.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    new = {}
    for path, pair in vectors.items():
        flat[path], u, v = normalize(flat[path], pair["u"], pair["v"], steps)
        new[path] = {"u": u, "v": v}
    return traverse_util.unflatten_dict(flat, sep="/"), new


def _kernels(params: Any) -> dict[str, jax.Array]:
    flat = traverse_util.flatten_dict(params, sep="/")
    return {path: array for path, array in flat.items() if path.rpartition("/")[2] == "kernel"}


class SpectralNorm(nn.Module):
    """Keeps u and v of one kernel. No parameters.

    Variables: spectral/u (n,) and spectral/v (kernel's shape without its last axis), float32,
    random unit vectors at first.
    """

    @nn.compact
    def __call__(self, kernel: jax.Array, train: bool = False) -> jax.Array:
        """kernel (..., n) -> the same divided by its estimated largest singular value.

        With `train`, one step of power iteration comes first; it is stored where the collection
        "spectral" is mutable and used for this call alone where not.
        """

        def start(shape):
            return _unit(jax.random.normal(self.make_rng("params"), shape))

        u = self.variable(COLLECTION, "u", start, kernel.shape[-1:])
        v = self.variable(COLLECTION, "v", start, kernel.shape[:-1])
        steps = 1 if train and not self.is_initializing() else 0
        kernel, new_u, new_v = normalize(kernel, u.value, v.value, steps)
        if steps and self.is_mutable_collection(COLLECTION):
            u.value, v.value = new_u, new_v
        return kernel


class SpectralConv(nn.Module):
    """`jaxgen.nn.conv.Conv` with a spectrally normalised kernel. (b, h, w, c) -> (b, h', w', n).

    Attributes: as of `Conv`. Parameters: kernel (HWIO), bias; state: norm/u, norm/v.
    """

    features: int
    kernel_size: int
    strides: int = 1
    padding: str | int = "SAME"
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        k = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (k, k, x.shape[-1], self.features))
        kernel = SpectralNorm(name="norm")(kernel, train)
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class SpectralDense(nn.Module):
    """A dense layer with a spectrally normalised kernel. (..., c) -> (..., features).

    Parameters: kernel (in, out), bias; state: norm/u, norm/v.
    """

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        kernel = SpectralNorm(name="norm")(kernel, train)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


def rules(source: str, target: str, kernel_size: int = 0) -> list[Rule]:
    """Key map of a layer under `torch.nn.utils.spectral_norm`: weight_orig, weight_u, weight_v.

    Args:
      source: key of the PyTorch layer. target: path of ours, without a collection.
      kernel_size: side of a convolution's kernel; 0: a dense layer.
    """
    kernel, vector = DENSE, NONE
    if kernel_size:
        kernel, vector = CONV, _conv_vector(kernel_size)
    return [
        Rule(f"{source}.weight_orig", f"params/{target}/kernel", kernel),
        Rule(f"{source}.weight_u", f"{COLLECTION}/{target}/norm/u"),
        Rule(f"{source}.weight_v", f"{COLLECTION}/{target}/norm/v", vector),
        Rule(f"{source}.bias", f"params/{target}/bias"),
    ]


def _conv_vector(size: int) -> Transform:
    """v: (in * height * width,) <-> (height, width, in)."""

    def to_jax(a: np.ndarray) -> np.ndarray:
        return a.reshape(-1, size, size).transpose(1, 2, 0)

    return Transform(to_jax, lambda a: a.transpose(2, 0, 1).reshape(-1), ndim=1)
