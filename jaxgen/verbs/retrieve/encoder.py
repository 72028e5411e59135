"""What makes features for an index: a model that composes, or one whose texts are features too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgen.errors import UserError
from jaxgen.metrics.retrieval import unit

_SUBTRACTED = 0.5  # of the words that are not wanted, beside what is


class Asked(NamedTuple):
    """What a search asks for.

    pictures: uint8 (h, w, 3). features: (n, width), of pictures that are in the index. texts: what
    is wanted, or to be changed. unwanted: texts. weight: of the texts against the pictures.
    """

    pictures: Sequence[np.ndarray] = ()
    features: np.ndarray | None = None
    texts: Sequence[str] = ()
    unwanted: Sequence[str] = ()
    weight: float = 1.0


class Encoder(Protocol):
    """Features of pictures, and of what a search asks for, to be compared by inner products."""

    name: str
    fingerprint: str
    width: int

    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 (n, width), rows of length 1."""

    def query(self, asked: Asked) -> np.ndarray:
        """float32 (width,), of length 1; raises UserError for what the model can't ask."""


def encoder_of(model: Any, name: str) -> Encoder:
    """The encoder of an open model.

    Args: name: as the user named it, so that it can be opened again.

    Raises:
      UserError: the model makes no features of pictures.
    """
    if "retrieve" in model.verbs:
        return Composing(model.retrieve, name)
    if "embed" in model.verbs:
        return Joint(model.embed, name)
    raise UserError(f"{name} makes no features of pictures: give a model of family tirg or clip")


class Joint:
    """Pictures and texts as features of one space, as a CLIP's.

    A query is the mean of the pictures plus `weight` times the mean of the texts, less half of what
    is not wanted. (A sum of features is not the feature of a sentence that says it all.)
    """

    def __init__(self, use: Any, name: str):
        self.use, self.name = use, name
        self.fingerprint: str = use.fingerprint
        self.width: int = use.verb.width

    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """See `Encoder`."""
        found: np.ndarray = self.use.pictures(images)
        return found

    def query(self, asked: Asked) -> np.ndarray:
        """See `Encoder`."""
        total = np.zeros(self.width, np.float32)
        seen = _together(self.pictures(list(asked.pictures)), asked.features)
        if len(seen):
            total += unit(seen.mean(axis=0)[None])[0]
        if asked.texts:
            total += asked.weight * self._mean(asked.texts)
        if asked.unwanted:
            total -= _SUBTRACTED * self._mean(asked.unwanted)
        return _whole(total)

    def _mean(self, texts: Sequence[str]) -> np.ndarray:
        return unit(self.use.texts(list(texts)).mean(axis=0)[None])[0]


class Composing:
    """A picture and a text as the feature of the picture asked for, as TIRG's.

    A query is the mean over each picture with each text; `weight` below 1 mixes in the pictures as
    they are.
    """

    def __init__(self, use: Any, name: str):
        self.use, self.name = use, name
        self.fingerprint: str = use.fingerprint
        self.width: int = use.verb.width

    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """See `Encoder`."""
        found: np.ndarray = self.use.pictures(images)
        return found

    def query(self, asked: Asked) -> np.ndarray:
        """See `Encoder`."""
        if asked.unwanted:
            raise UserError(
                f"{self.name} has no features of texts to subtract: --not is for a model of family "
                "clip; say it as a change, such as `remove red cube`"
            )
        if asked.texts and not len(asked.pictures):
            raise UserError(
                f"{self.name} reads words that change a picture: give --image, or --like with a "
                "picture that is still in its place; words alone are for a model of family clip"
            )
        seen = _together(self.pictures(list(asked.pictures)), asked.features)
        as_they_are = unit(seen.mean(axis=0)[None])[0]
        if not asked.texts:
            return _whole(as_they_are)
        pairs = [(picture, text) for picture in asked.pictures for text in asked.texts]
        composed = self.use([picture for picture, _ in pairs], [text for _, text in pairs])
        changed = unit(composed.mean(axis=0)[None])[0]
        return _whole(asked.weight * changed + (1.0 - asked.weight) * as_they_are)


def _together(pictures: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    return pictures if features is None else np.concatenate([pictures, features])


def _whole(x: np.ndarray) -> np.ndarray:
    if float(np.linalg.norm(x)) < 1e-6:
        raise UserError("what is asked for cancels out: change --weight or what is not wanted")
    found: np.ndarray = unit(x[None])[0]
    return found
