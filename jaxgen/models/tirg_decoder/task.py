"""The decoder of composed features from a config: what it is made of, its data, loss and verbs."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.data.triplets import examples, section
from jaxgen.errors import UserError
from jaxgen.evaluation import drawing
from jaxgen.keys import Table
from jaxgen.models.tirg import over_clip
from jaxgen.models.tirg.task import keys as retrieval_keys
from jaxgen.models.tirg_decoder.draw import edit_verb, own_retrieve_verb
from jaxgen.models.tirg_decoder.losses import DecoderLosses
from jaxgen.models.tirg_decoder.networks import Decoder, Prior
from jaxgen.models.tirg_decoder.retrieval import PART, check_part
from jaxgen.task import Evaluation, Phase, Task
from jaxgen.tasks.common import module_keys
from jaxgen.tasks.tirg.drawing import EVAL, JOINT, MODEL
from jaxgen.verbs.edit.use import Changer
from jaxgen.weights.parts import Part, Wanted


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`.

    Without `parts.retrieval` also what a retrieval model's does.
    """
    model = {
        **MODEL,
        "decoder": module_keys(Decoder),
        "prior": module_keys(Prior),
    }
    if "image" in config.model:
        model = {**retrieval_keys(config)["model"], **JOINT, **model}
    return {"data": section.KEYS, "model": model, "eval": EVAL}


def parts(config: ConfigDict) -> dict[str, Wanted]:
    """What it is made of: a retrieval model, unless it is trained along."""
    size = config.data.get("size")

    def trains(part: Part) -> None:
        theirs = part.config.data.size if part.config is not None else size
        if theirs != size:
            raise UserError(f"data.size={size} must be {theirs}, that of parts.{PART}")

    return {
        PART: Wanted(
            families=("tirg",),
            nets=("g",),
            needed="image" not in config.model,
            fits=check_part,
            trains=trains,
        )
    }


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with the vocabulary of its training texts, where it trains what reads them."""
    return examples.resolve(config) if "image" in config.model else config


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained decoder can do."""
    return {"edit": edit_verb(config), "retrieve": own_retrieve_verb(config)}


class Evaluator:
    """Measures a run on its test queries; see `jaxgen.evaluation.drawing`."""

    def __init__(self, config: ConfigDict):
        self.config, self.verb = config, edit_verb(config)

    def __call__(self, nets: Any, frozen: Any, step: int) -> Evaluation:
        """Each host measures all."""
        del frozen, step
        config = self.config
        draw = drawing.drawn_by(Changer(self.verb, nets, config.family), config.eval.seed)
        triplets, queries, pictures = drawing.asked_of(
            config, config.eval.queries, examples.square, config.data.size
        )
        metrics = drawing.measure(draw, triplets, queries, pictures)
        rows, titles = drawing.sheet(draw, queries, pictures, config.eval.pictures)
        return Evaluation(metrics, rows, titles)


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: impossible settings.
    """
    section.check(config.data)
    if over_clip.is_over_clip(config):
        raise UserError("model.image.form=clip has no map to draw of: use grid or resnet")
    losses = DecoderLosses(config)
    evaluator = Evaluator(config)
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=(Phase("decoder", losses.trained, losses.loss),),
        train_data=lambda: examples.train_data(config.data, losses.retrieval.words),
        ema=dict.fromkeys(losses.trained, ema) if ema else {},
        evaluate=evaluator,
        eval_nets=evaluator.verb.nets,
    )
