"""`model.generate` of a VQGAN and a CLIP put together: pictures that come about step by step.

A picture is a function of both models, its text, its `Draw` and the options alone, to the last bit
on the same devices: rows of a batch are computed one by one, and a run that goes on from a saved
state is the run that was not stopped.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxgen import devices
from jaxgen.data.text.prompt import Prompt
from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.task import Nets
from jaxgen.verbs import settings
from jaxgen.verbs.generate import draw
from jaxgen.verbs.generate import guide_rows as rows_of
from jaxgen.verbs.generate.base import Drawing, TextToImage
from jaxgen.verbs.generate.guide_rows import Inputs, Row
from jaxgen.verbs.generate.guide_run import ALONE, Along, Programs, Run
from jaxgen.verbs.generate.guided import JUDGE, STAGE, Guided, Wishes, own
from jaxgen.verbs.memory import check_batch
from jaxgen.weights.digests import fingerprint

BATCH = 8  # pictures that come about together where nobody says how many
# Does not change what a picture is, or is looked at itself.
_FREE = ("iterations", "init", "image_prompts")


class Guide(TextToImage[Guided]):
    """The verb `generate` of a VQGAN and a CLIP; see `TextToImage`."""

    def __init__(self, verb: Guided, nets: Nets, name: str):
        super().__init__(verb, nets, name)
        self.begin: TextToImage[Any] | None = None
        self.programs: Programs = {}

    @property
    def size(self) -> int:
        """Side of the pictures in pixels, where nobody asks for another."""
        return self.verb.size

    def starting_from(self, begin: TextToImage[Any]) -> Guide:
        """This verb whose pictures start from those that another model draws of the same prompt.

        Of a prompt of several texts it is the first one's picture, with the same seed and number.

        Args: begin: the other model's `generate`.
        """
        other = copy.copy(self)
        other.begin = begin
        return other

    def read(self, text: str) -> Wishes:
        """`text:weight:stop|...` as CLIP reads it: weight 1 and no stop where they are not given.

        Raises:
          UserError: another form.
        """
        return self.verb.read(text)

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises UserError for an option that the model does not take, or a value out of range."""
        wanted = self._settings(options)
        rows_of.read_inputs(wanted, (self.size, self.size))

    def check_masks(self) -> None:
        """Raises UserError: there are none."""
        raise UserError(f"{self.name} has no masks to show; a model of the family ssagan has")

    def check_size(self, size: tuple[int, int]) -> None:
        """Raises UserError for a (height, width) of less than a code."""
        self._rounded(size)

    def each(
        self,
        jobs: Sequence[tuple[Prompt, int]],
        *,
        seed: int = 0,
        same_noise: bool = False,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        progress: draw.Progress | None = None,
        along: Along = ALONE,
        **options: Any,
    ) -> Iterator[Drawing]:
        """As of every model; see `TextToImage.each`.

        `batch` pictures come about together, with the same result.

        Args: along: what is done meanwhile.

        Raises:
          UserError: too large for the memory, or what goes on no longer has finite numbers.
        """
        wanted = self._settings(options)
        height, width = self._rounded(size or (self.size, self.size))
        inputs = rows_of.read_inputs(wanted, (height, width))
        rows = self._rows(jobs, seed, same_noise, (height, width), wanted, inputs, along)
        guide = self.verb.guide(self.verb.settings(wanted), self._mesh)
        run = Run(
            self.verb, dict(self.variables), guide, inputs, (height, width),
            int(wanted["iterations"]), along, self.programs, self._begun(seed, same_noise),
        )  # fmt: skip
        done = 0
        for group in _groups(rows, batch):
            for picture in run.pictures(done, group):
                yield picture, ()
            done += len(group)
            if progress:
                progress(done, len(rows))

    def _begun(
        self, seed: int, same_noise: bool
    ) -> Callable[[Sequence[Row]], list[np.ndarray]] | None:
        """Rows -> the other model's pictures of them; None: there is no other."""
        begin = self.begin
        if begin is None:
            return None

        def drawn(rows: Sequence[Row]) -> list[np.ndarray]:
            jobs = [(begin.read(row.wishes.wishes[0].text), row.draw.number) for row in rows]
            found = begin.each(jobs, seed=seed, same_noise=same_noise)
            return [picture for picture, _ in found]

        return drawn

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 in hex of each model's weights: {"vqgan": ..., "clip": ...}."""
        nets = dict(self.nets)
        return {part: fingerprint(own(nets, part)) for part in (STAGE, JUDGE)}

    @functools.cached_property
    def _mesh(self) -> jax.sharding.Mesh | None:
        used = devices.usable()
        return devices.mesh(used) if len(used) > 1 else None

    def _settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Every option's value.

        Raises:
          UserError: an option that there is not, or a value that is not allowed.
        """
        wanted = settings(self.verb.options, options, self.name)
        for key, option in self.verb.options.items():
            if isinstance(option.default, int) and int(wanted[key]) != wanted[key]:
                raise UserError(f"the {key} must be a whole number, not {wanted[key]}")
        if self.begin is not None and wanted["init"] is not self.verb.options["init"].default:
            raise UserError("init and --start-from exclude each other; give one")
        self.verb.settings(wanted)
        return wanted

    def _rounded(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in whole codes, rounded down as the original does.

        Raises:
          UserError: less than a code.
        """
        factor = self.verb.stage.factor
        height, width = (side // factor * factor for side in size)
        if not height or not width:
            raise UserError(
                f"{size[0]} x {size[1]} pixels are less than one code of {self.name}, which has "
                f"{factor} x {factor}"
            )
        if (height, width) != tuple(size) and size not in self._said:
            self._said.add(size)
            log.warning(
                "%d x %d is drawn as %d x %d: a code has %d pixels", *size, height, width, factor
            )
        return height, width

    @functools.cached_property
    def _said(self) -> set[tuple[int, int]]:
        return set()

    def _rows(
        self,
        jobs: Sequence[tuple[Prompt, int]],
        seed: int,
        same_noise: bool,
        size: tuple[int, int],
        wanted: Mapping[str, Any],
        inputs: Inputs,
        along: Along,
    ) -> list[Row]:
        """The pictures, each with what a stopped run left of it."""
        used = [x for x, _ in inputs.images]
        used += [inputs.start] if isinstance(inputs.start, np.ndarray) else []
        common = {
            "models": self.fingerprints if along.saved else {},
            "size": size,
            "options": {key: value for key, value in wanted.items() if key not in _FREE},
            "start": inputs.start if isinstance(inputs.start, str) else "",
            "images": [(wish.weight, wish.stop) for _, wish in inputs.images],
            "begin": fingerprint(self.begin.variables) if self.begin and along.saved else "",
        }
        mark = rows_of.key_of(common, used)
        rows = []
        for prompt, number in jobs:
            assert isinstance(prompt, Wishes)  # of `read`
            one = draw.Draw(seed, 0 if same_noise else draw.text_number(prompt), number)
            asked = [(wish.text, wish.weight, wish.stop) for wish in prompt.wishes]
            rows.append(Row(prompt, one, rows_of.key_of([mark, asked, one]), {}))
        kept = rows_of.read_saved(along.saved, [row.key for row in rows], along.anew)
        before = {key: row for key, row in kept.items() if row["step"] <= wanted["iterations"]}
        return [row._replace(saved=before.get(row.key, {})) for row in rows]


def _groups(rows: Sequence[Row], batch: int | None) -> Iterator[list[Row]]:
    """Rows in their order, `batch` at a time, that have come equally far and have as many texts.

    Raises:
      UserError: a batch below 1.
    """
    batch = BATCH if batch is None else batch
    check_batch(batch)
    group: list[Row] = []
    for row in rows:
        alike = not group or (row.step, len(row.wishes.wishes)) == (
            group[0].step, len(group[0].wishes.wishes),
        )  # fmt: skip
        if group and (len(group) == batch or not alike):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
