"""Quantisers of a first stage: vectors to codes and back, one interface.

A quantiser is a Linen module of `codes` and `width`:

- `__call__(z (b, h, w, width), train=False, temperature=1.0) -> Quantized`, float32 inside;
- `lookup(codes (...)) -> (..., width)`, and `vectors() -> (codes, width)`, all of them.

Random numbers of training come from the rng stream "quantize". Running statistics are in the
collection "codebook"; they change where `train` is given and that collection is mutable.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from jaxgen.errors import UserError
from jaxgen.keys import Table
from jaxgen.models.vqgan.quantize.averaged import Averaged, Cosine
from jaxgen.models.vqgan.quantize.contract import Quantized
from jaxgen.models.vqgan.quantize.finite import FSQ, GRIDS, LFQ
from jaxgen.models.vqgan.quantize.gumbel import Gumbel
from jaxgen.models.vqgan.quantize.nearest import Learned, Linear
from jaxgen.tasks.common import choose, module_keys

__all__ = ["FORMS", "Quantized", "keys", "make"]

FORMS: dict[str, Any] = {
    "vq": Learned,
    "ema": Averaged,
    "cosine": Cosine,
    "simvq": Linear,
    "gumbel": Gumbel,
    "fsq": FSQ,
    "lfq": LFQ,
}
_LIMITS: dict[str, dict[str, Any]] = {
    "dim": {"least": 0},
    "kmeans": {"least": 0},
    "decay": {"most": None, "below": 1},
    "grid": {"choices": GRIDS},
    "entropy_temperature": {"least": None, "above": 0},
}


def make(form: str, codes: int, width: int, **settings: Any) -> nn.Module:
    """The quantiser of that form.

    Args:
      form: of `FORMS`.
      codes: size of the codebook; of FSQ the product of its levels, of LFQ a power of two.
      width: channels of what is quantised, and of what comes back.
      settings: fields of the form's module.

    Raises:
      UserError: unknown form or setting.
    """
    module = choose(FORMS, form, "quantiser")
    try:
        return module(codes=codes, width=width, **settings)
    except TypeError as error:
        raise UserError(f"quantiser {form}: {str(error).split('__init__() ')[-1]}") from None


def keys(form: str) -> Table:
    """The settings of a form, for a config's section."""
    module = choose(FORMS, form, "quantiser")
    fields = module.__dataclass_fields__
    limits: Any = {name: limit for name, limit in _LIMITS.items() if name in fields}
    return module_keys(module, given=("codes", "width"), **limits)
