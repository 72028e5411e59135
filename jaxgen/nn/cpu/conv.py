"""Convolution by the fastest known way of the platform that a program is lowered for.

On GPU and TPU that is XLA's own (`jaxgen.nn.plain_conv`). On a CPU, float32 convolutions of stride
1 go by `jaxgen.nn.cpu.dense`, depthwise ones by `jaxgen.nn.cpu.depthwise`, which have the same
three functions, and the gradients of all others by `jaxgen.nn.cpu.gradients`. The choice is made
when a program is lowered, by its platform and not by that of its host, and leaves no branch in the
compiled program.

The three functions here are closed under differentiation: the gradients of each are made of the
other two, and so are gradients of gradients (a discriminator's penalty). JAX's own rules arrive
there at a convolution with a dilated input whose window is the whole picture, which XLA's CPU
backend computes fifty times more slowly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.devices import looping
from jaxgen.nn import plain_conv
from jaxgen.nn.cpu import dense, depthwise, gradients
from jaxgen.nn.plain_conv import Form


def convolve(xs: list[jax.Array], kernel: jax.Array, form: Form) -> jax.Array:
    """`plain_conv.conv`: xs (b, h, w, c_i) as if concatenated, kernel (kh, kw, c, n)."""
    if len(xs) > 1 and not (_way(xs[0], kernel.shape, form) is dense and dense.several(xs, kernel)):
        xs = [jnp.concatenate(xs, axis=3)]
    return _conv(xs, kernel, form)


def by_platform(fast: Callable, plain: Callable, *arrays: Any) -> Any:
    """`fast(*arrays)` in programs for CPUs, `plain(*arrays)` in all others."""
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)


def _way(x: jax.Array, size: tuple[int, ...], form: Form) -> ModuleType:
    """The module with the ways on CPUs for an input (or gradient) and a kernel (kh, kw, ...)."""
    if x.dtype != jnp.float32:
        return plain_conv
    if form.groups > 1:
        return depthwise if depthwise.takes(size, form) else plain_conv
    return dense if dense.takes(size, form) else gradients


def _compute(name: str, way: ModuleType, *arrays: Any, **settings: Any) -> jax.Array:
    """Function `name` of the way on CPUs, and of `plain_conv` elsewhere."""
    plainly = getattr(plain_conv, name.removesuffix("_in_loop"))
    if not hasattr(way, name) or way is plain_conv:
        return plainly(*arrays, **settings)
    fast, plain = (_settled(f, **settings) for f in (getattr(way, name), plainly))
    return by_platform(fast, plain, *arrays)


@functools.cache
def _settled(f: Callable, **settings: Any) -> Callable:
    """`f` with its settings: one function for all layers alike, which JAX traces once."""
    return partial(f, **settings)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(xs: list[jax.Array], kernel: jax.Array, form: Form) -> jax.Array:
    return _compute("conv", _way(xs[0], kernel.shape, form), xs, kernel, form=form)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _input_gradient(
    g: jax.Array, kernel: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    way = _way(g, kernel.shape, form)
    return _compute("input_gradient", way, g, kernel, form=form, size=size)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _kernel_gradient(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> jax.Array:
    # In a loop's body XLA's own is slower still; depthwise ones have no way of their own there.
    name = "kernel_gradient_in_loop" if looping() and form.groups == 1 else "kernel_gradient"
    return _compute(name, _way(g, size, form), xs, g, form=form, size=size)


def _gradients_of_inputs(
    g: jax.Array, kernel: jax.Array, form: Form, xs: list[jax.Array]
) -> list[jax.Array]:
    """`_input_gradient`, taken apart into one for each of `xs`."""
    dx = _input_gradient(g, kernel, form, xs[0].shape[1:3])
    ends = np.cumsum([x.shape[3] for x in xs])
    return jnp.split(dx, ends[:-1], axis=3) if len(xs) > 1 else [dx]


def _conv_fwd(xs: list[jax.Array], kernel: jax.Array, form: Form) -> tuple[jax.Array, tuple]:
    return _conv(xs, kernel, form), (xs, kernel)


def _conv_bwd(form: Form, saved: tuple, g: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    xs, kernel = saved
    dxs = _gradients_of_inputs(g, kernel, form, xs)
    return dxs, _kernel_gradient(xs, g, form, kernel.shape[:2])


def _input_gradient_fwd(
    g: jax.Array, kernel: jax.Array, form: Form, size: tuple[int, int]
) -> tuple[jax.Array, tuple]:
    return _input_gradient(g, kernel, form, size), (g, kernel)


def _input_gradient_bwd(
    form: Form, size: tuple[int, int], saved: tuple, ct: jax.Array
) -> tuple[jax.Array, jax.Array]:
    del size
    g, kernel = saved
    return _conv([ct], kernel, form), _kernel_gradient([ct], g, form, kernel.shape[:2])


def _kernel_gradient_fwd(
    xs: list[jax.Array], g: jax.Array, form: Form, size: tuple[int, int]
) -> tuple[jax.Array, tuple]:
    return _kernel_gradient(xs, g, form, size), (xs, g)


def _kernel_gradient_bwd(
    form: Form, size: tuple[int, int], saved: tuple, ct: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    del size
    xs, g = saved
    return _gradients_of_inputs(g, ct, form, xs), _conv(xs, ct, form)


_conv.defvjp(_conv_fwd, _conv_bwd)
_input_gradient.defvjp(_input_gradient_fwd, _input_gradient_bwd)
_kernel_gradient.defvjp(_kernel_gradient_fwd, _kernel_gradient_bwd)
