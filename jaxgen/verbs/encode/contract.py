"""The verb `encode` as a first stage offers it: pictures as codes or latents, and back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxgen.task import Nets
from jaxgen.verbs import Option


@dataclasses.dataclass(frozen=True, eq=False)
class Encode:
    """Pictures as small grids of codes (or of vectors), and back.

    encode: (nets, x (b, h, w, channels) float32 in [-1, 1]) -> latents: codes (b, h/factor,
      w/factor) int32 in [0, codes) where `codes` is not 0, else float32 (b, h/factor, w/factor, d).
      Deterministic. Pure, jit-able.
    decode: (nets, latents) -> y (b, h, w, channels) float32, about [-1, 1].
    factor: pixels per cell along each axis; height and width must be multiples of it.
    codes: entries of the codebook; 0: latents are numbers.
    channels: of the pictures; 3 of photos, others of segmentations and depth.
    radius: (of `encode`, of `decode`) receptive-field radius in pixels, from which exact tiling
      follows; None: attention or normalisation looks at the whole picture, which must be computed
      at once.
    kind: of the pictures, as of `jaxgen.data.captioned.source.Source`: photo, segmentation, depth.
    width: d, numbers of a cell; 0: latents are codes.
    moments: (nets, x) -> (b, h/factor, w/factor, 2 d) float32, mean and log of the variance of the
      latents, where those are drawn at random: `encode` gives the mean. None: there is no chance.
    vectors: nets -> the codebook's vectors, (codes, d) float32; None: there is none to show.
    paint: (nets, z (b, h / factor, w / factor, d) float32) -> y as of `decode`, of vectors of the
      codebook or others of their kind, and differentiable; None: without a codebook's vectors.
    """

    nets: tuple[str, ...]
    encode: Callable[[Nets, jax.Array], jax.Array]
    decode: Callable[[Nets, jax.Array], jax.Array]
    factor: int
    codes: int
    channels: int = 3
    radius: tuple[int, int] | None = None
    kind: str = "photo"
    width: int = 0
    moments: Callable[[Nets, jax.Array], jax.Array] | None = None
    vectors: Callable[[Nets], jax.Array] | None = None
    paint: Callable[[Nets, jax.Array], jax.Array] | None = None
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"factor": self.factor, "codes": self.codes}

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        what = f"{self.codes} codes" if self.codes else "latents"
        return f"Pictures as {what}, one per {self.factor} x {self.factor} pixels, and back"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        del prompt
        return (
            "codes = model.encode(array); again = model.encode.decode(codes)",
            f"jaxgen reconstruct photo.png --model {name} -o again.png",
        )

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""
        side = 4 * self.factor
        picture = jax.ShapeDtypeStruct((1, side, side, self.channels), "float32")
        jax.eval_shape(self.decode, nets, jax.eval_shape(self.encode, nets, picture))

    @functools.cached_property
    def encode_program(self) -> Callable[[Nets, Any], jax.Array]:
        """`encode`, jitted."""
        return jax.jit(self.encode)

    @functools.cached_property
    def moments_program(self) -> Callable[[Nets, Any], jax.Array]:
        """`moments`, jitted."""
        assert self.moments is not None
        return jax.jit(self.moments)

    @functools.cached_property
    def decode_program(self) -> Callable[[Nets, Any], jax.Array]:
        """`decode`, jitted."""
        return jax.jit(self.decode)
