"""`jaxgen prepare codes` and `latents`: training pictures as a trained first stage has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import devices
from jaxgen.data import cached
from jaxgen.data.captioned import section
from jaxgen.data.captioned.records import center, open_records
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

    Raises:
      UserError: no such model, or none that gives these; pictures that can't be read or don't fit.
    """
    section.check(config.data, captioned=False)
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
    count = len(records)
    used = devices.usable()
    nets = devices.replicate(part.nets, used)
    batch = BATCH * len(used)

    def rows() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, count, batch):
            held = [records[i] for i in range(start, min(start + batch, count))]
            seen = [from_record(verb, center(record["image"], size)) for record in held]
            seen += seen[-1:] * (batch - len(seen))  # always the same shape: one program
            program = verb.moments_program if latents else verb.encode_program
            made = np.asarray(program(nets, devices.split(np.stack(seen), used)))
            for record, one in zip(held, made, strict=False):
                yield int(record["meaning"]), one
            if moved is not None:
                moved(min(start + batch, count), count)

    about: dict[str, Any] = cached.about_data(config.data, records, list(records.captions()))
    more = {} if latents else {"codes": verb.codes}
    return cached.write_made(kind, path, rows(), part.fingerprint, about, **more)
