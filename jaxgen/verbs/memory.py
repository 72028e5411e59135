"""What a program needs while it runs, estimated from its shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

# A convolution holds its input and output, and XLA some scratch: 2.25 times the largest activation
# was measured for the 16-block SRResNet on a CPU.
LIVE = 3.0


def largest_activation(function: Callable[..., Any], *shapes: Any) -> int:
    """Bytes of the largest picture-like array (four axes or more) that a function computes.

    Args: shapes: of its arguments, pytrees of `jax.ShapeDtypeStruct`.
    """
    return max(_sizes(jax.make_jaxpr(function)(*shapes).jaxpr), default=0)


def _sizes(jaxpr: Any) -> Iterator[int]:
    """Bytes of each picture-like intermediate, those of nested programs included."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            shape = getattr(variable.aval, "shape", ())
            if len(shape) >= 4:
                yield math.prod(shape) * variable.aval.dtype.itemsize
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _sizes(inner)
