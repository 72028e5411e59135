"""What was found of a picture, its inversion or what Imagic learnt: kept in a file, used again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.errors import UserError
from jaxgen.task import PyTree
from jaxgen.weights.files import parse_json, read_metadata, read_tree, write_safetensors

ENDING = ".safetensors"
FORMAT = "edit-found-1"


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Of one picture; what it fits is checked where it is used again.

    Attributes:
      kind: what it is; see `Method.finds`.
      weights: fingerprint of the model's. picture: that of the picture, fitted to the model's size.
      source: the caption by which it was found; "" of methods without.
      options: what it depends on, by name.
      arrays: a tree of NumPy arrays, of the method.
    """

    kind: str
    weights: str
    picture: str
    source: str
    options: Mapping[str, Any]
    arrays: PyTree

    def save(self, path: str | Path) -> None:
        """Writes a `.safetensors` file. Raises UserError: it cannot be written."""
        about = {
            "format": FORMAT, "kind": self.kind, "weights": self.weights, "picture": self.picture,
            "source": self.source, "options": dict(self.options),
        }  # fmt: skip
        check_file(path)
        write_safetensors(Path(path).expanduser(), self.arrays, {"edit": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> Found:
        """Reads what `save` wrote. Raises UserError: it is no such file."""
        path = Path(path).expanduser()
        about = parse_json(read_metadata(path).get("edit"))
        try:
            if about.pop("format") != FORMAT:
                raise UserError(f"{path} was kept by another jaxgen: invert the picture anew")
            options = dict(about.pop("options"))
            texts = {name: str(about[name]) for name in ("kind", "weights", "picture", "source")}
        except (LookupError, TypeError, ValueError):
            raise UserError(
                f"{path} is no inversion: give a file of `jaxgen edit --save-inversion`"
            ) from None
        return cls(**texts, options=options, arrays=read_tree(path))

    def fitted(
        self, kind: str, weights: str, picture: str, source: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The options with those that this was found by.

        Args: what is to be edited now, as of the attributes.

        Raises:
          UserError: it is of another kind, model, picture or caption, or an option is another.
        """
        if self.kind != kind:
            raise UserError(
                f"the inversion is of the kind {self.kind}, and this method begins from {kind}"
            )
        for now, then, what in (
            (weights, self.weights, "another model's: take the model that it was made with"),
            (picture, self.picture, "another picture's: give that, or invert this one"),
            (source, self.source, f"for the caption {self.source!r}: give that, or invert anew"),
        ):
            if now != then:
                raise UserError(f"the inversion is {what}")
        for name, value in self.options.items():
            if options.get(name, value) != value:
                raise UserError(
                    f"the inversion was made with {name}={value}: leave {name} out, or invert anew"
                )
        return {**options, **self.options}


def check_file(path: str | Path) -> None:
    """Raises UserError: a name of another ending."""
    if Path(path).suffix.lower() != ENDING:
        raise UserError(f"{path}: what is found of a picture is kept in a {ENDING} file")


def fingerprint(picture: np.ndarray) -> str:
    """16 hex digits of a picture uint8 (h, w, 3)."""
    digest = hashlib.sha256(f"{picture.shape}\n".encode())
    digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()[:16]
