"""What verbs that make features of pictures have alike: `embed` and `retrieve`."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.task import Nets
from jaxgen.verbs import Option
from jaxgen.verbs.use import Use
from jaxgen.weights.digests import fingerprint


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Features(abc.ABC):
    """Features of pictures, to be compared with those of something that is said in words.

    size: side of the pictures that `pictures` takes. width: of the features.
    read: text -> Prompt; raises UserError where the model has no tokenizer. length: its tokens.
    pictures: (nets, x (b, size, size, 3) float32 in [-1, 1]) -> (b, width) float32, of length 1.
    fit: (uint8 (h, w, 3), size) -> uint8 (size, size, 3): how a picture is looked at.
    """

    nets: tuple[str, ...]
    size: int
    width: int
    length: int
    read: Callable[[str], Prompt]
    pictures: Callable[[Nets, jax.Array], jax.Array]
    fit: Callable[[np.ndarray, int], np.ndarray]
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"features": self.width, "size": self.size}

    @abc.abstractmethod
    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""

    @abc.abstractmethod
    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""

    @abc.abstractmethod
    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""

    @functools.cached_property
    def pictures_program(self) -> Callable[[Nets, Any], jax.Array]:
        """`pictures`, jitted, of uint8."""

        @jax.jit
        def program(nets, x):
            return self.pictures(nets, unit_range(x))

        return program

    def shapes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Of one picture, one text's tokens and their mask, as the functions take them."""
        text = (1, self.length)
        return (
            jax.ShapeDtypeStruct((1, self.size, self.size, 3), np.float32),
            jax.ShapeDtypeStruct(text, np.int32),
            jax.ShapeDtypeStruct(text, np.bool_),
        )


F = TypeVar("F", bound=Features)


class FeatureUse(Use[F]):
    """See `Use`. batch: rows that are computed together, the last ones filled up."""

    batch: int

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex of the weights: compare features of one model alone."""
        return fingerprint(self.variables)

    def pictures(self, images: Sequence[Any]) -> np.ndarray:
        """Features of pictures.

        Args: images: each uint8 (h, w, 3), or gray (h, w); the middle square is looked at.

        Returns: float32 (n, width), rows of length 1; n may be 0.

        Raises:
          UserError: no such pictures.
        """
        return self._rows(self.verb.pictures_program, [self._fitted(image) for image in images])

    def _fitted(self, image: Any) -> np.ndarray:
        picture = np.asarray(image)
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=-1)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UserError(
                f"{self.name} takes pictures as uint8 (h, w, 3), not {picture.dtype} "
                f"{picture.shape}"
            )
        return self.verb.fit(picture, self.verb.size)

    def _rows(
        self, program: Callable[..., jax.Array], *columns: Sequence[np.ndarray]
    ) -> np.ndarray:
        """`program(variables, *columns)` of all rows, batch by batch: (n, width) float32."""
        found = [np.zeros((0, self.verb.width), np.float32)]
        for start in range(0, len(columns[0]), self.batch):
            parts = [list(column[start : start + self.batch]) for column in columns]
            count = len(parts[0])
            filled = [np.stack(part + part[-1:] * (self.batch - count)) for part in parts]
            found.append(np.asarray(program(self.variables, *filled))[:count])
        return np.concatenate(found)


def unit_range(x: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return x.astype("float32") / 127.5 - 1.0
