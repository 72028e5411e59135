"""The verb `generate` of a first stage and a CLIP put together: VQGAN-CLIP (Crowson et al. 2022).

It is no pass of a network but an optimisation, so that it has its own contract beside `Generate`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxgen.data.text.prompt import Prompt
from jaxgen.edit.augment import KINDS
from jaxgen.edit.cutouts import STYLES, Cutouts
from jaxgen.edit.prompts import parse
from jaxgen.edit.vqgan_clip import ANCHORS, VQGANCLIP, Settings
from jaxgen.errors import UserError
from jaxgen.task import Nets
from jaxgen.verbs import Option
from jaxgen.verbs.embed.contract import Embed
from jaxgen.verbs.encode.contract import Encode

STAGE, JUDGE = "vqgan", "clip"  # the nets' names begin with one of them
NONE = "none"
RANDOM, NOISE = "codes", "noise"  # starts that are no picture of the user's

OPTIONS: Mapping[str, Option] = {
    "iterations": Option(300, "steps of the optimiser", least=1, most=1_000_000),
    "rate": Option(0.1, "of Adam", above=0.0, most=1000.0),
    "cutouts": Option(32, "views of the picture that CLIP sees in each step", least=1, most=4096),
    "cutout_style": Option(
        "pooled", "pooled: the whole picture, mean and maximum of its regions; crops: random "
        "squares of it", choices=STYLES,
    ),
    "cutout_power": Option(1.0, "of crops: above 1 smaller ones, below 1 larger ones", above=0.0,
                           most=1000.0),
    "augment": Option(",".join(KINDS), f"changes of the views, several by commas; or {NONE}"),
    "noise": Option(0.1, "deviation of the views' noise, at most", least=0.0, most=1.0),
    "chunk": Option(
        32, "views at once: memory grows with it; of several chunks each is computed twice",
        least=1, most=4096,
    ),
    "init": Option(
        RANDOM, f"the start: {RANDOM} (one at random for each cell), {NOISE} (encoded), or a "
        "picture's file", open=True,
    ),
    "init_weight": Option(0.0, "how much the vectors are held, by `anchor`", least=0.0,
                          most=1e6),
    "anchor": Option("start", "near the start, or near zero, ever less", choices=ANCHORS),
    "smoothing": Option(
        0.0, "decay of the running mean that is shown; 0: the last vectors", least=0.0, most=0.9999
    ),
    "image_prompts": Option("", "pictures to be like: FILE:weight:stop, several by |"),
    "noise_prompts": Option("", "random features to be like: SEED:weight:stop, several by |"),
}  # fmt: skip


class Asked(NamedTuple):
    """One text of a prompt as CLIP reads it; see `jaxgen.edit.prompts.Wish`."""

    text: str
    prompt: Prompt
    weight: float
    stop: float


@dataclasses.dataclass(frozen=True)
class Wishes(Prompt):
    """`text:weight:stop|...` read; words and what is unknown are those of all texts.

    said: as the user wrote it.
    """

    said: str = ""
    wishes: tuple[Asked, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Guided:
    """A first stage whose vectors follow what a CLIP sees in their picture.

    stage: of photos, with a codebook's vectors. judge: with a tokenizer.
    size: side of the pictures where nobody asks for another, a multiple of the stage's factor.
    """

    stage: Encode
    judge: Embed
    size: int
    options: Mapping[str, Option] = dataclasses.field(default_factory=lambda: OPTIONS)

    @property
    def nets(self) -> tuple[str, ...]:
        """Names of both models' nets."""
        stage = [f"{STAGE}/{net}" for net in self.stage.nets]
        return (*stage, *(f"{JUDGE}/{net}" for net in self.judge.nets))

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"size": self.size}

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return "Text to image by a VQGAN that follows a CLIP"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        return (
            f'pictures = model.generate("{prompt}", iterations=300)',
            f'jaxgen generate "{prompt}" --model {name} -o out.png',
        )

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`."""
        self.stage.trace(own(nets, STAGE))
        self.judge.trace(own(nets, JUDGE))

    def read(self, text: str) -> Wishes:
        """A prompt as CLIP reads each of its texts.

        Raises:
          UserError: a weight or stop that is no number, an empty text, or a CLIP that reads none.
        """
        wishes = tuple(
            Asked(wish.text, self.judge.read(wish.text), wish.weight, wish.stop)
            for wish in parse(text)
        )
        prompts = [wish.prompt for wish in wishes]
        unknown = {word: near for prompt in prompts for word, near in prompt.unknown.items()}
        return Wishes(
            tokens=prompts[0].tokens,
            mask=prompts[0].mask,
            words=tuple(word for prompt in prompts for word in prompt.words),
            unknown=unknown,
            cut=tuple(word for prompt in prompts for word in prompt.cut),
            said=text,
            wishes=wishes,
        )

    def settings(self, wanted: Mapping[str, Any]) -> Settings:
        """What the options say of how z moves.

        Raises:
          UserError: changes of the views that there are not.
        """
        names = [name.strip() for name in str(wanted["augment"]).split(",")]
        changes = [] if names == [NONE] else names
        if unknown := [name for name in changes if name not in KINDS]:
            raise UserError(
                f"the augment must be of {', '.join(KINDS)}, or {NONE}, not {unknown[0]!r}"
            )
        cutouts = Cutouts(
            size=self.judge.size,
            count=int(wanted["cutouts"]),
            style=wanted["cutout_style"],
            power=float(wanted["cutout_power"]),
            changes=tuple(kind for kind in KINDS if kind in changes),
            noise=float(wanted["noise"]),
            chunk=int(wanted["chunk"]),
        )
        return Settings(
            cutouts=cutouts,
            rate=float(wanted["rate"]),
            anchor=wanted["anchor"],
            anchor_weight=float(wanted["init_weight"]),
            smoothing=float(wanted["smoothing"]),
        )

    @functools.cached_property
    def _guides(self) -> dict[tuple[Settings, Mesh | None], VQGANCLIP]:
        return {}

    def guide(self, settings: Settings, mesh: Mesh | None = None) -> VQGANCLIP:
        """The algorithm on both models' nets; with the same settings the same one."""
        key = (settings, mesh)
        if key not in self._guides:
            vectors, paint = self.stage.vectors, self.stage.paint
            assert vectors is not None  # `runs.compose` takes no other
            assert paint is not None
            self._guides[key] = VQGANCLIP(
                vectors=lambda nets: vectors(own(nets, STAGE)),
                paint=lambda nets, z: paint(own(nets, STAGE), z),
                judge=lambda nets, x: self.judge.pictures(own(nets, JUDGE), x),
                settings=settings,
                mesh=mesh,
            )
        return self._guides[key]


def own(nets: Nets, part: str) -> dict[str, Any]:
    """One model's nets among those of both."""
    start = f"{part}/"
    return {net[len(start) :]: tree for net, tree in nets.items() if net.startswith(start)}


def random_features(seed: int, width: int) -> jax.Array:
    """A noise prompt's features (1, width): normal numbers."""
    return jax.random.normal(jax.random.key(seed), (1, width))
