"""`jaxgen prepare codes` and `latents`: training pictures as a trained first stage has them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import devices
from jaxgen.data import cached
from jaxgen.data.captioned import section
from jaxgen.data.captioned.records import center, open_records
from jaxgen.data.shard import SHARE, Shard, all_shares, in_turn
from jaxgen.errors import UserError
from jaxgen.verbs.encode.pictures import from_record
from jaxgen.verbs.offered import codes_of, latents_of
from jaxgen.weights.parts import Wanted, take

BATCH = 64  # pictures at a time on each device


def write(
    config: ConfigDict,
    model: str,
    path: str | os.PathLike,
    moved: Callable[[int, int], None] | None = None,
    kind: type[cached.Made] = cached.Codes,
    shard: Shard | None = None,
) -> int:
    """Writes what a first stage makes of all training pictures; returns their number.

    Args:
      config: of a prior or a diffusion model; of its `data` the pictures and what they need are
        used.
      model: the first stage: a run, an exported folder or a bundled model.
      path: of the file; an older one is replaced.
      moved: called with (pictures done, pictures in all) after each batch.
      kind: `Codes` for `model.codes`, `Latents` (moments, from which training draws) for
        `model.latents`.
      shard: only this share of the pictures, for `join`. A file that holds it already is left.

    Raises:
      UserError: no such model, or none that gives these; pictures that can't be read or don't fit;
        an empty share, or another file of that name.
    """
    section.check(config.data, captioned=False)
    if section.bucketed(config.data):
        raise UserError(f"{kind.HOLDS} of a file are of one shape: set data.bucket_ratio to 1")
    size = config.data.size
    # As a run takes it, so that the fingerprint is that of the run's part.
    latents = kind is cached.Latents
    part = take("first_stage", model, Wanted(nets=("g",), within=latents))
    verb = latents_of(part.config, model) if latents else codes_of(part.config, model)
    if size % verb.factor:
        raise UserError(
            f"data.size={size} must be a multiple of {verb.factor}, the pixels of a place of "
            f"{model}"
        )
    records = open_records(config.data, "train")
    batches = [range(i, min(i + BATCH, len(records))) for i in range(0, len(records), BATCH)]
    more: dict[str, Any] = {} if latents else {"codes": verb.codes}
    about: dict[str, Any] = cached.about_data(config.data, records, list(records.captions()))
    if shard is not None:
        batches = shard.batches(batches, "pictures")
        more[SHARE] = {"number": shard.number, "count": shard.count}
        if (there := _there(kind, path, part.fingerprint, about, more)) is not None:
            return there
    mine = list(itertools.chain(*batches))
    count = len(mine)
    used = devices.usable()
    nets = devices.replicate(part.nets, used)
    batch = BATCH * len(used)

    def rows() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, count, batch):
            held = [records[i] for i in mine[start : start + batch]]
            seen = [from_record(verb, center(record["image"], size)) for record in held]
            seen += seen[-1:] * (batch - len(seen))  # always the same shape: one program
            program = verb.moments_program if latents else verb.encode_program
            made = np.asarray(program(nets, devices.split(np.stack(seen), used)))
            for record, one in zip(held, made, strict=False):
                yield int(record["meaning"]), one
            if moved is not None:
                moved(min(start + batch, count), count)

    return cached.write_made(kind, path, rows(), part.fingerprint, about, **more)


def _there(
    kind: type[cached.Made],
    path: str | os.PathLike,
    fingerprint: str,
    data: dict[str, Any],
    more: dict[str, Any],
) -> int | None:
    """The number of pictures of a share that is there already; None: it is not.

    Raises:
      UserError: another file is.
    """
    if not Path(path).expanduser().is_file():
        return None
    made = kind(path)
    said = {key: value for key, value in made.about.items() if key != "grid"}
    if said != {**more, "first_stage": fingerprint, "data": data}:
        raise UserError(f"{path} holds other {kind.HOLDS} or another share; give another -o")
    return len(made)


def join(
    paths: Sequence[str | os.PathLike],
    path: str | os.PathLike,
    kind: type[cached.Made] = cached.Codes,
) -> int:
    """Puts the files of all shares together to the file of all pictures; returns their number.

    The file is the same as one made without shares, byte for byte.

    Raises:
      UserError: a file that holds no share, shares of several first stages or sets of pictures, one
        that is missing or comes twice, a file that can't be written.
    """
    parts = [kind(name) for name in paths]
    files = [(part.path, part.about, part) for part in parts]
    found, about = all_shares(files, f"jaxgen prepare {kind.HOLDS}")
    rows = in_turn([part.rows() for part in found], BATCH)
    del about["grid"]
    fingerprint, data = about.pop("first_stage"), about.pop("data")
    return cached.write_made(kind, path, rows, fingerprint, data, **about)
