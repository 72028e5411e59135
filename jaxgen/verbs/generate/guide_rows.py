"""What each picture of a VQGAN-CLIP run begins with and is guided by, and where it had come to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgen import weights
from jaxgen.data.picture_files import read_image
from jaxgen.edit.prompts import Wish, parse
from jaxgen.edit.vqgan_clip import Prompts, State
from jaxgen.errors import UserError
from jaxgen.verbs.generate.draw import Draw
from jaxgen.verbs.generate.guided import NOISE, RANDOM, Wishes


class Row(NamedTuple):
    """One picture.

    wishes: its prompt. draw: of its random numbers. key: of all that the picture follows from but
    the number of iterations, in hex. saved: where a run before had come to, {} if nowhere.
    """

    wishes: Wishes
    draw: Draw
    key: str
    saved: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """Iterations done."""
        return int(self.saved["step"]) if self.saved else 0


class Inputs(NamedTuple):
    """What all pictures of a run have alike.

    start: RANDOM, NOISE, or a picture uint8 (h, w, 3) of the run's size. images: (picture as
    float32 (h, w, 3) in [0, 1], its wish) each. noises: (seed, its wish) each.
    """

    start: str | np.ndarray
    images: tuple[tuple[np.ndarray, Wish], ...]
    noises: tuple[tuple[int, Wish], ...]


def read_inputs(options: Mapping[str, Any], size: tuple[int, int]) -> Inputs:
    """The pictures and seeds that the options name, pictures resized to `size` (height, width).

    Raises:
      UserError: no such picture or seed.
    """
    start = options["init"]
    if not isinstance(start, str) or start not in (RANDOM, NOISE):
        start = resized(read_start(start), size)
    images = []
    for wish in _wishes(options["image_prompts"], "image_prompts"):
        picture = resized(read_image(Path(wish.text).expanduser()), size)
        images.append((picture.astype(np.float32) / 255, wish))
    noises = []
    for wish in _wishes(options["noise_prompts"], "noise_prompts"):
        if not wish.text.isascii() or not wish.text.isdigit() or int(wish.text) >= 2**32:
            raise UserError(
                f"noise_prompts: {wish.text!r} is no seed from 0 to 4294967295; write "
                "SEED:weight:stop, several by |"
            )
        noises.append((int(wish.text), wish))
    return Inputs(start, tuple(images), tuple(noises))


def read_start(start: Any) -> np.ndarray:
    """A start's picture, uint8 (h, w, 3), of a file or of an array.

    Raises:
      UserError: no such picture.
    """
    if isinstance(start, str | Path):
        return read_image(Path(start).expanduser())
    picture = np.asarray(start)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UserError(
            f"init takes {RANDOM}, {NOISE}, a file or a picture uint8 (h, w, 3), not "
            f"{picture.dtype} {picture.shape}"
        )
    return picture


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w, 3) at (height, width), by Lanczos' filter as the original does."""
    if picture.shape[:2] == size:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS))


def _wishes(text: Any, name: str) -> tuple[Wish, ...]:
    if not isinstance(text, str):
        raise UserError(f"{name} must be a text, several by |, not {type(text).__name__}")
    try:
        return parse(text) if text else ()
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def key_of(facts: Any, pictures: Sequence[np.ndarray] = ()) -> str:
    """A digest of what a picture follows from, in hex."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for picture in pictures:
        digest.update(f"{picture.dtype} {picture.shape}".encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()[:32]


def stacked(rows: Sequence[Prompts]) -> Prompts:
    """Of as many prompts each."""
    return jax.tree.map(lambda *parts: jnp.stack(parts), *rows)


def taken(state: State, row: int) -> dict[str, np.ndarray]:
    """One row of a state as named arrays."""
    leaves = {path: np.asarray(leaf) for path, leaf in _named(state)}
    return {path: leaf[row] if leaf.ndim else leaf for path, leaf in leaves.items()}


def put_together(like: State, rows: Sequence[Mapping[str, np.ndarray]]) -> State:
    """The state of rows that have come equally far.

    Args: like: a state of as many rows, or its shapes.

    Raises:
      UserError: they are of another kind.
    """
    found = []
    for path, leaf in _named(like):
        try:
            given = [row[path] for row in rows]
            whole = np.stack(given) if leaf.ndim else given[0]
        except (KeyError, ValueError):
            whole = np.zeros(())
            given = []
        if not given or whole.shape != leaf.shape:
            raise UserError("the saved state is of another jaxgen: delete it and begin anew")
        found.append(whole.astype(leaf.dtype))
    return jax.tree.unflatten(jax.tree.structure(like), found)


def _named(state: State) -> list[tuple[str, Any]]:
    pairs = jax.tree_util.tree_flatten_with_path(state)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in pairs]


def write_saved(path: Path, rows: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes rows by their keys, whole or not at all.

    Raises:
      UserError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.write_safetensors(path, {key: dict(row) for key, row in rows.items()})


def read_saved(
    path: Path | None, keys: Sequence[str], anew: bool
) -> dict[str, dict[str, np.ndarray]]:
    """Rows of these keys that a run before left; {} where it left no file.

    Args: anew: a file of other pictures is not minded.

    Raises:
      UserError: the file is damaged, or of other pictures.
    """
    if path is None or not path.exists():
        return {}
    found = weights.read_tree(path)
    known = {key: found[key] for key in keys if key in found}
    if not known and not anew:
        raise UserError(
            f"{path} holds pictures of other prompts, settings or models: delete it, or give "
            "--overwrite to begin anew"
        )
    return known
