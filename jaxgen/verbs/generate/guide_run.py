"""A run of VQGAN-CLIP: its pictures' starts, steps, saves and frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import devices
from jaxgen.edit.vqgan_clip import START, VQGANCLIP, Prompts, State, row_key
from jaxgen.errors import UserError
from jaxgen.task import Nets
from jaxgen.verbs.encode import tiling
from jaxgen.verbs.generate import guide_rows as rows_of
from jaxgen.verbs.generate.guide_rows import Inputs, Row
from jaxgen.verbs.generate.guided import JUDGE, NOISE, RANDOM, STAGE, Guided, own, random_features

PIECE = 1.0  # seconds between two looks at what goes on
SAVE = 30.0  # seconds between two saves
Programs = dict[Any, Callable[..., tuple[State, jax.Array]]]


class Along(NamedTuple):
    """What is done while pictures come about.

    saved: the file that a stopped run goes on from; None: none. Whoever asked removes it.
    anew: if it is of other pictures, it is replaced; otherwise that is an error.
    frames: called as frames(number of the job, number of the frame, picture uint8 (h, w, 3)) at the
      start and after every `every` iterations.
    moved: called as moved(iterations of pictures that are done since the last call).
    """

    saved: Path | None = None
    anew: bool = False
    frames: Callable[[int, int, np.ndarray], None] | None = None
    every: int = 10
    moved: Callable[[int], None] = lambda count: None


ALONE = Along()


class Run:
    """Pictures of one size (height, width) and of the same options.

    Args:
      nets: of both models, on the devices.
      inputs: what all pictures have alike.
      iterations: of each picture in all.
      programs: compiled ones, kept from one run to the next.
      begun: rows -> pictures uint8 (h, w, 3) of any size that they start from; None: as `inputs`.
    """

    def __init__(
        self,
        verb: Guided,
        nets: Nets,
        guide: VQGANCLIP,
        inputs: Inputs,
        size: tuple[int, int],
        iterations: int,
        along: Along,
        programs: Programs,
        begun: Callable[[Sequence[Row]], list[np.ndarray]] | None = None,
    ):
        self.verb, self.nets, self.guide = verb, nets, guide
        self.inputs, self.size, self.iterations = inputs, size, iterations
        self.along, self.programs, self.begun = along, programs, begun
        self.kept: dict[str, dict[str, np.ndarray]] = {}  # rows as they were last

    def pictures(self, first: int, rows: Sequence[Row]) -> Iterator[np.ndarray]:
        """The pictures of rows that have come equally far and have as many texts.

        Args: first: number of the first one's job.

        Yields: uint8 (h, w, 3).
        """
        prompts = self._placed(rows_of.stacked([self._prompts(row) for row in rows]))
        state = self._placed(self._state(rows))
        step = rows[0].step
        self.along.moved(step * len(rows))
        try:
            if not step:
                self._frames(first, state, 0)
            saved, piece = time.monotonic(), 1
            advance = self._compiled(state, prompts) if step < self.iterations else None
            while advance is not None and step < self.iterations:
                left = self.iterations - step
                if self.along.frames is not None:
                    left = min(left, self.along.every - step % self.along.every)
                count, before = min(piece, left), time.monotonic()
                state, loss = self._advanced(advance, state, prompts, count)
                step += count
                if not np.isfinite(loss).all():
                    raise UserError(
                        f"the numbers are no longer finite after {step} iterations: give a smaller "
                        "rate"
                    )
                now = time.monotonic()
                piece = max(1, int(count * PIECE / max(now - before, 1e-3)))
                self._frames(first, state, step)
                if now - saved > SAVE:
                    self._save(rows, state)
                    saved = time.monotonic()
                self.along.moved(count * len(rows))
            yield from self._shown(state)
        except (KeyboardInterrupt, GeneratorExit):
            self._save(rows, state)
            raise
        if self.along.saved is not None:  # of the next groups' saves
            self._keep(rows, state)

    def _advanced(
        self, advance: Callable[..., Any], state: State, prompts: Prompts, count: int
    ) -> tuple[State, np.ndarray]:
        try:
            state, loss = advance(self.nets, state, prompts, self._placed(jnp.int32(count)))
            return state, np.asarray(loss)
        except jax.errors.JaxRuntimeError as error:
            if not devices.out_of_memory(error):
                raise
            raise UserError(_TOO_LARGE + _SMALLER) from None

    def _compiled(self, state: State, prompts: Prompts) -> Callable[..., tuple[State, jax.Array]]:
        """`guide.advance` for these shapes; it is known then what memory it needs.

        Raises:
          UserError: more than there is.
        """
        key = (self.guide, str(jax.tree.map(jnp.shape, (state, prompts))))
        if key not in self.programs:
            count = self._placed(jnp.int32(1))
            program = jax.jit(self.guide.advance).lower(self.nets, state, prompts, count).compile()
            devices.check_program(program, _TOO_LARGE + " needs", _SMALLER[2:])
            self.programs[key] = program
        return self.programs[key]

    def _placed(self, tree: Any) -> Any:
        return devices.replicate(tree, devices.usable())

    def _prompts(self, row: Row) -> Prompts:
        """One row's (p, d), (p,), (p,)."""
        judge, nets = self.verb.judge, own(self.nets, JUDGE)
        features: list[jax.Array] = []
        weights: list[float] = []
        stops: list[float] = []
        for asked in row.wishes.wishes:
            prompt = asked.prompt
            features.append(judge.texts_program(nets, prompt.tokens[None], prompt.mask[None]))
            weights.append(asked.weight)
            stops.append(asked.stop)
        seed = jnp.asarray(row.draw, jnp.uint32)
        for number, (picture, wish) in enumerate(self.inputs.images):
            seen = self.guide.look_program(self.nets, jnp.asarray(picture), seed, number)
            features.append(seen)
            weights += [wish.weight / len(seen)] * len(seen)
            stops += [wish.stop] * len(seen)
        for number, wish in self.inputs.noises:
            features.append(random_features(number, judge.width))
            weights.append(wish.weight)
            stops.append(wish.stop)
        return Prompts(
            jnp.concatenate([jnp.asarray(part) for part in features]),
            jnp.asarray(weights, jnp.float32),
            jnp.asarray(stops, jnp.float32),
        )

    def _state(self, rows: Sequence[Row]) -> State:
        """Where rows begin, or go on."""
        seeds = jnp.asarray([row.draw for row in rows], jnp.uint32)
        factor = self.verb.stage.factor
        cells = (self.size[0] // factor, self.size[1] // factor)
        codes = jax.ShapeDtypeStruct((len(rows), *cells), jnp.int32)
        if rows[0].saved:
            like = jax.eval_shape(self.guide.start, self.nets, seeds, codes)
            return rows_of.put_together(like, [row.saved for row in rows])
        start = self.inputs.start
        if self.begun is not None:
            pictures = [rows_of.resized(picture, self.size) for picture in self.begun(rows)]
        elif isinstance(start, np.ndarray):
            pictures = [start] * len(rows)
        elif start == NOISE:
            pictures = [_noise(seed, self.size) for seed in seeds]
        else:
            assert start == RANDOM
            return self.guide.random(self.nets, seeds, *cells)
        found = np.stack([self._encoded(picture) for picture in pictures])
        return self.guide.start(self.nets, seeds, jnp.asarray(found))

    def _encoded(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) -> its codes."""
        x = picture.astype(np.float32) / 127.5 - 1
        return tiling.encode(self.verb.stage, own(self.nets, STAGE), x)

    def _shown(self, state: State) -> np.ndarray:
        """uint8 (b, h, w, 3)."""
        pictures = np.asarray(self.guide.pictures_program(self.nets, state))
        return np.clip(np.round((pictures + 1) * 127.5), 0, 255).astype(np.uint8)

    def _frames(self, first: int, state: State, step: int) -> None:
        frames, every = self.along.frames, self.along.every
        if frames is not None and step % every == 0:
            for i, picture in enumerate(self._shown(state)):
                frames(first + i, step // every, picture)

    def _keep(self, rows: Sequence[Row], state: State) -> None:
        for i, row in enumerate(rows):
            self.kept[row.key] = rows_of.taken(state, i)

    def _save(self, rows: Sequence[Row], state: State) -> None:
        if self.along.saved is not None:
            self._keep(rows, state)
            rows_of.write_saved(self.along.saved, self.kept)


_TOO_LARGE = "a step of a picture of this size"
_SMALLER = "; give a smaller size, or fewer views at once by the option chunk"


def _noise(seed: jax.Array, size: tuple[int, int]) -> np.ndarray:
    """A picture of random pixels, uint8 (h, w, 3)."""
    return np.asarray(jax.random.bits(row_key(seed, START), (*size, 3), jnp.uint8))
