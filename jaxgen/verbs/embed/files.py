"""What `jaxgen embed` does with paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxgen.data.picture_files import list_images, read_image
from jaxgen.data.text.unicode import read_text
from jaxgen.errors import UserError
from jaxgen.verbs.embed.use import BATCH, Embedder
from jaxgen.verbs.files import naming
from jaxgen.whole import replacing


def find(paths: Sequence[Path]) -> list[Path]:
    """The pictures of files and, by name, of folders with all that lies below them.

    Raises:
      UserError: a path that is not there, or no pictures.
    """
    found: list[Path] = []
    for path in paths:
        inside = list_images(path)
        if not inside:
            raise UserError(f"{path} holds no pictures")
        found += inside
    return found


def read_texts(path: Path) -> list[str]:
    """The lines of a UTF-8 file; empty ones are left out.

    Raises:
      UserError: it cannot be read, or holds none.
    """
    text = read_text(path.expanduser())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} holds no texts: give one in each line")
    return lines


def embed_pictures(
    use: Embedder, paths: Sequence[Path], check: Callable[[], None]
) -> tuple[list[str], np.ndarray, list[str]]:
    """(paths, features, errors): of the pictures that can be read, and what is wrong with others.

    Args: check: called between batches; raises what is to end it.

    Raises:
      UserError: none can be read.
    """
    names: list[str] = []
    features: list[np.ndarray] = []
    errors: list[str] = []
    for start in range(0, len(paths), BATCH):
        check()
        images = []
        for path in paths[start : start + BATCH]:
            try:
                images.append(read_image(path))
            except UserError as error:
                errors.append(naming(path, error))
            else:
                names.append(str(path))
        features.append(use.pictures(images))
    if not names:
        raise UserError(errors[0])
    return names, np.concatenate(features), errors


def write(out: Path, names: Sequence[str], features: np.ndarray, fingerprint: str) -> None:
    """The .npz file, whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    with replacing(out) as part:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.savez(file, features=features, names=np.array(names), model=np.array(fingerprint))
