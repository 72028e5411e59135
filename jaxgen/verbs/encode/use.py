"""`model.encode`: pictures as codes, and back."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.verbs.encode import pictures, tiling
from jaxgen.verbs.encode.contract import Encode
from jaxgen.verbs.upscale.contract import LUMA
from jaxgen.verbs.use import Use
from jaxgen.weights.digests import fingerprint


class Coder(Use[Encode]):
    """A trained model's verb `encode`; see `Use`."""

    @property
    def factor(self) -> int:
        """Pixels per code along each axis."""
        return self.verb.factor

    @property
    def codes(self) -> int:
        """Entries of the codebook; 0: latents are numbers."""
        return self.verb.codes

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the weights: codes mean something to this model alone."""
        return fingerprint(self.variables)

    def __call__(self, image: Any, tile: int | None = None) -> np.ndarray:
        """One picture as codes.

        Args:
          image: of the model's kind: photos uint8 (h, w, 3) or gray (h, w); segmentations classes
            uint8 (h, w); depths numbers (h, w). Sides that are no multiples of the factor are
            mirrored up to one.
          tile: side in pixels of the parts that are computed one by one, for a model that can be
            tiled exactly; None: as large as memory allows. The result is the same.

        Returns: int32 (h', w'), h' = h / factor rounded up, each in [0, codes); or float32
          (h', w', d) where the model has no codes.

        Raises:
          UserError: no such picture, or more memory needed than there is.
        """
        x = tiling.padded(self.verb, pictures.prepared(self.verb, np.asarray(image)))
        return tiling.encode(self.verb, self.nets, x, tile)

    def decode(
        self, codes: Any, size: tuple[int, int] | None = None, tile: int | None = None
    ) -> np.ndarray:
        """The picture of codes.

        Args:
          codes: as `encode` gives them.
          size: (height, width) of the picture that was encoded, to which the result is cut; None:
            all of it.
          tile: as for encoding.

        Returns: uint8 (h, w, 3); of segmentations classes (h, w), of depths gray levels (h, w).

        Raises:
          UserError: no such codes, or a size that they are not of.
        """
        latents = self._checked(np.asarray(codes))
        height, width = (n * self.factor for n in latents.shape[:2])
        rows, columns = size or (height, width)
        if not (height - self.factor < rows <= height and width - self.factor < columns <= width):
            raise UserError(
                f"{latents.shape[1]}x{latents.shape[0]} codes are a picture of up to "
                f"{width}x{height} pixels, not one of {columns}x{rows}"
            )
        y = tiling.decode(self.verb, self.nets, latents, tile)
        return pictures.finished(self.verb, y[:rows, :columns])

    def reconstruct(self, image: Any, tile: int | None = None) -> np.ndarray:
        """A picture encoded and decoded: of the same size; gray photos come back as luma."""
        image = np.asarray(image)
        again = self.decode(self(image, tile), (image.shape[0], image.shape[1]), tile)
        return self.gray(again) if self.verb.kind == "photo" and image.ndim == 2 else again

    def gray(self, picture: np.ndarray) -> np.ndarray:
        """The luma of what was decoded of a gray photo: uint8 (h, w, 3) -> (h, w)."""
        return np.round(picture @ LUMA).astype(np.uint8)

    def bits_per_pixel(self, codes: np.ndarray, size: tuple[int, int]) -> float:
        """log2 of the codebook's size for each code, over the pixels (height, width)."""
        if not self.codes:
            raise UserError(f"{self.name} has no codes: its latents are numbers")
        return float(np.log2(self.codes)) * codes.size / (size[0] * size[1])

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        if not self.codes:
            if codes.ndim != 3 or codes.dtype.kind != "f":
                raise UserError(f"{self.name} takes latents (h, w, d), not {codes.shape}")
            return codes.astype(np.float32)
        if codes.ndim != 2 or codes.dtype.kind not in "iu" or not codes.size:
            raise UserError(
                f"{self.name} takes whole codes (h, w), not {codes.dtype} {codes.shape}"
            )
        if codes.min() < 0 or codes.max() >= self.codes:
            raise UserError(
                f"codes from {codes.min()} to {codes.max()}: {self.name} has 0 to {self.codes - 1}"
            )
        return codes.astype(np.int32)


bind = Coder
