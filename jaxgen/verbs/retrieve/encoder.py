"""What makes features for an index: a model that composes, or one whose texts are features too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgen.errors import UserError
from jaxgen.metrics.retrieval import unit
from jaxgen.weights.places import that_do

_SUBTRACTED = 0.5  # of the words that are not wanted, beside what is


class Asked(NamedTuple):
    """What a search asks for.

    pictures: uint8 (h, w, 3). texts: what is wanted, or to be changed. unwanted: texts. weight: of
    the texts against the pictures.
    """

    pictures: Sequence[np.ndarray] = ()
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
    raise UserError(
        f"{name} makes no features of pictures: give a model of family tirg or clip"
        f"{that_do('embed')}"
    )


class _OfModel:
    """What both kinds have of an open model's verb."""

    def __init__(self, use: Any, name: str):
        self.use, self.name = use, name
        self.fingerprint: str = use.fingerprint
        self.width: int = use.verb.width

    def pictures(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """See `Encoder`."""
        found: np.ndarray = self.use.pictures(images)
        return found


class Joint(_OfModel):
    """Pictures and texts as features of one space, as a CLIP's.

    A query is the mean of the pictures plus `weight` times the mean of the texts, less half of what
    is not wanted. (A sum of features is not the feature of a sentence that says it all.)
    """

    def query(self, asked: Asked) -> np.ndarray:
        """See `Encoder`."""
        total = np.zeros(self.width, np.float32)
        if len(asked.pictures):
            total += _mean(self.pictures(asked.pictures))
        if asked.texts:
            total += asked.weight * _mean(self.use.texts(asked.texts))
        if asked.unwanted:
            total -= _SUBTRACTED * _mean(self.use.texts(asked.unwanted))
        return _whole(total)


class Composing(_OfModel):
    """A picture and a text as the feature of the picture asked for, as TIRG's.

    A query is the mean over each picture with each text; `weight` below 1 mixes in the pictures as
    they are.
    """

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
        as_they_are = _mean(self.pictures(asked.pictures))
        if not asked.texts:
            return _whole(as_they_are)
        pairs = [(picture, text) for picture in asked.pictures for text in asked.texts]
        composed = self.use([picture for picture, _ in pairs], [text for _, text in pairs])
        return _whole(asked.weight * _mean(composed) + (1.0 - asked.weight) * as_they_are)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Of rows (n, width), at length 1."""
    found: np.ndarray = unit(rows.mean(axis=0)[None])[0]
    return found


def _whole(x: np.ndarray) -> np.ndarray:
    if float(np.linalg.norm(x)) < 1e-6:
        raise UserError("what is asked for cancels out: change --weight or what is not wanted")
    found: np.ndarray = unit(x[None])[0]
    return found
