"""Dense convolutions of stride 1 that keep the picture's size, float32, faster than XLA's on CPUs.

- 3x3, 32 channels or more on both sides: Winograd's F(4x4, 3x3), `jaxgen.nn.cpu.winograd`, forward
  and for both gradients;
- several inputs to be concatenated, in such a layer: each is transformed on its own, so that the
  layers of a dense block share the transforms and no concatenation is made;
- 3x3 over few pixels with many channels (a denoiser's middle): one matrix product with the shifted
  inputs side by side, which reads the kernel once as it lies in memory, forward and for both
  gradients;
- 1x1: a matrix product;
- 3x3 to a few channels (pictures, dense blocks' growth): one matrix product for all taps, whose
  results are shifted and added;
- other gradients with respect to the kernel as in `jaxgen.nn.cpu.gradients`.

Everything else is XLA's. The functions are those of `jaxgen.nn.plain_conv`; measured in
docs/performance.md.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from jaxgen.nn import plain_conv
from jaxgen.nn.cpu import gradients, winograd
from jaxgen.nn.cpu.gradients import same_size, turned
from jaxgen.nn.plain_conv import Form

# Winograd pays for its transforms and for its longer compilation from here on: channels, and
# pixels of the batch times channels in times channels out.
MIN_CHANNELS = 32
MIN_PRODUCTS = 6e6
# With fewer channels than this it pays only while the transformed numbers stay near the cache.
MANY_CHANNELS = 64
FEW_PIXELS = 16 * 32 * 32
# The transform of a kernel with more channels than this on both sides is larger than any cache: it
# takes longer than what it saves of fewer pixels, and all kernels' are in memory at once.
LARGE_CHANNELS, LARGE_PIXELS = 512, 2048
# Over fewer pixels than this the transform of the kernel takes longer than what it saves, and with
# so many numbers in the kernel's plane a product with all taps is the fastest. Of the input's
# gradient up to more pixels: it needs no turned kernel.
FEW, FEW_BACK, LARGE_PLANE = 257, 1025, 1 << 17
# Over fewer than so many, where the plane is a kernel's of 512 to 512 channels or larger.
MORE, HUGE_PLANE = 897, 1 << 18
# Up to so many channels out, and with so many in, taps are computed by one product and then added.
FEW_OUT, ENOUGH_IN = 4, 8


def takes(size: tuple[int, ...], form: Form) -> bool:
    """Whether these ways know a kernel (kh, kw, ...): odd, stride 1, same size."""
    return form.groups == 1 and same_size(size, form)


def several(xs: list[jax.Array], kernel: jax.Array) -> bool:
    """Whether several inputs are faster one by one: by Winograd, each with channels enough."""
    kh, kw, c, n = kernel.shape
    least = min(x.shape[3] for x in xs)
    return least >= MIN_CHANNELS and _by_winograd((*xs[0].shape[:3], c), n, (kh, kw))


def conv(xs: list[jax.Array], kernel: jax.Array, form: Form) -> jax.Array:
    """`plain_conv.conv`."""
    (kh, kw, c, n), x = kernel.shape, xs[0]
    if _by_winograd((*x.shape[:3], c), n, (kh, kw)):
        return winograd.conv3x3(xs, kernel)
    if (kh, kw) == (1, 1):
        return x @ kernel[0, 0]
    if _by_columns(x.shape, n, (kh, kw), FEW):
        return (_columns(x) @ kernel.reshape(9 * c, n)).reshape(*x.shape[:3], n)
    if (kh, kw) == (3, 3) and n <= FEW_OUT and c >= ENOUGH_IN:
        return _by_taps(x, kernel)
    return plain_conv.conv(xs, kernel, form)


def input_gradient(g: jax.Array, kernel: jax.Array, form: Form, size: tuple[int, int]) -> jax.Array:
    """`plain_conv.input_gradient`: the convolution of the gradient with the turned kernel."""
    assert size == g.shape[1:3]
    if kernel.shape[:2] == (1, 1):
        return jnp.einsum("bhwn,cn->bhwc", g, kernel[0, 0])
    if _by_columns(g.shape, kernel.shape[2], kernel.shape[:2], FEW_BACK):
        return _back_by_columns(g, kernel)
    return conv([g], turned(kernel), form)


def kernel_gradient(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """`plain_conv.kernel_gradient`."""
    found = _kernel_gradient(xs, g, size)
    return gradients.kernel_gradient(xs, g, form, size) if found is None else found


def kernel_gradient_in_loop(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    """`kernel_gradient` by products alone."""
    found = _kernel_gradient(xs, g, size)
    return gradients.kernel_gradient_in_loop(xs, g, form, size) if found is None else found


def _kernel_gradient(xs: list[jax.Array], g: jax.Array, size: tuple[int, int]) -> jax.Array | None:
    """The kernel's gradient where it has a way here."""
    c, n, x = sum(x.shape[3] for x in xs), g.shape[3], xs[0]
    if _by_winograd((*x.shape[:3], c), n, size):
        parts = [winograd.kernel_gradient(x, g) for x in xs]
        return jnp.concatenate(parts, axis=2) if len(parts) > 1 else parts[0]
    if size == (1, 1):
        # As matrices first: of more axes XLA transposes the input, and for it computes it again.
        return (x.reshape(-1, c).T @ g.reshape(-1, n))[None, None]
    if len(xs) == 1 and _by_columns(x.shape, n, size, FEW):
        return (_columns(x).T @ g.reshape(-1, n)).reshape(3, 3, c, n)
    return None


def _by_winograd(shape: tuple[int, ...], n: int, size: tuple[int, int]) -> bool:
    """Whether Winograd pays for (b, h, w, c) -> n channels with a kernel of `size`."""
    b, h, w, c = shape
    least, pixels = min(c, n), b * h * w
    near = least >= MANY_CHANNELS or pixels <= FEW_PIXELS
    pays = pixels * c * n >= MIN_PRODUCTS and pixels >= FEW
    pays = pays and not _by_columns(shape, n, size, FEW)
    pays = pays and (least <= LARGE_CHANNELS or pixels >= LARGE_PIXELS)
    return size == (3, 3) and least >= MIN_CHANNELS and near and pays


def _by_columns(shape: tuple[int, ...], n: int, size: tuple[int, ...], few: int) -> bool:
    """Whether (b, h, w, c) -> n channels is one product with the shifted inputs side by side."""
    b, h, w, c = shape
    few = max(few, MORE) if c * n >= HUGE_PLANE else few
    return size == (3, 3) and b * h * w < few and c * n >= LARGE_PLANE


def _columns(x: jax.Array) -> jax.Array:
    """(b, h, w, c) -> (b h w, 9 c), what each of the taps sees."""
    h, w, c = x.shape[1:]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, axis=3).reshape(-1, 9 * c)


def _back_by_columns(g: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose of the product with `_columns`: (b, h, w, n) -> (b, h, w, c).

    Without the turned kernel: to copy that takes longer than the convolution.
    """
    (b, h, w, n), c = g.shape, kernel.shape[2]
    taps = (g.reshape(-1, n) @ kernel.reshape(9 * c, n).T).reshape(b, h, w, 9, c)
    taps = jnp.pad(taps, ((0, 0), (1, 1), (1, 1), (0, 0), (0, 0)))
    places = [(2 - i, 2 - j, 3 * i + j) for i in range(3) for j in range(3)]
    shifted = [taps[:, i : i + h, j : j + w, tap] for i, j, tap in places]
    return sum(shifted[1:], start=shifted[0])


def _by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The sum over the kernel's taps of shifted products: (b, h, w, c) -> (b, h, w, n)."""
    (b, h, w, c), (kh, kw, _, n) = x.shape, kernel.shape
    products = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, kh * kw * n)
    pads = ((0, 0), (kh // 2,) * 2, (kw // 2,) * 2, (0, 0), (0, 0))
    taps = jnp.pad(products.reshape(b, h, w, kh * kw, n), pads)
    places = itertools.product(range(kh), range(kw))
    shifted = [taps[:, i : i + h, j : j + w, kw * i + j] for i, j in places]
    return sum(shifted[1:], start=shifted[0])
