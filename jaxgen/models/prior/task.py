"""The prior from a config: what it is made of, its data, losses and verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data import cached
from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.data.captioned.records import count_validation
from jaxgen.errors import UserError
from jaxgen.keys import Table, check_value
from jaxgen.models.prior.evaluate import Evaluator
from jaxgen.models.prior.layout import (
    FIRST,
    SECOND,
    TEXT,
    make_sequence,
    reads,
)
from jaxgen.models.prior.losses import PriorLosses
from jaxgen.models.prior.networks import FORMS
from jaxgen.models.prior.sampler import Sampler
from jaxgen.task import Phase, Task
from jaxgen.tasks.common import module_keys
from jaxgen.tasks.prior.config import EVAL, MODEL
from jaxgen.tasks.t2i.text_part import same_tokenizer
from jaxgen.verbs.offered import codes_of
from jaxgen.weights.parts import Part, Wanted


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    form = config.model.get("form")
    check_value("model.form", form, MODEL["form"])
    sizes = ("ids", "codes", "length")
    limits: dict[str, Any] = {"dropout": {"below": 1, "most": None}}
    if form == "maskgit":
        limits["mlp"] = {"least": 0}
    transformer = module_keys(FORMS[form], given=sizes, **limits)
    return {
        "data": section.KEYS,
        "model": {**MODEL, "transformer": transformer},
        "eval": EVAL,
    }


def parts(config: ConfigDict) -> dict[str, Wanted]:
    """What a prior is made of: a first stage, and perhaps one of the condition or a text encoder.

    Raises:
      UserError: a part that the condition has no use for.
    """

    def codes(part: str, needed: bool) -> Wanted:
        return Wanted(
            nets=("g",),
            needed=needed,
            fits=lambda given: _fits(part, given),
            trains=lambda taken: _check_codes(config, part, taken),
        )

    condition = config.model.get("condition", "")
    wanted = {FIRST: codes(FIRST, needed=True)}
    if condition == "image":
        wanted[SECOND] = codes(SECOND, needed=True)
    if condition == "text":
        wanted[TEXT] = Wanted(
            nets=("text",), needed=False, fits=lambda given: _reads_alike(config, given)
        )
    for name, use in ((SECOND, "image"), (TEXT, "text")):
        if config.get("parts", {}).get(name) and name not in wanted:
            raise UserError(f"parts.{name} is of model.condition={use}; leave it empty")
    return wanted


def _fits(part: str, config: ConfigDict | None) -> None:
    codes_of(config, f"parts.{part}")


def _check_codes(config: ConfigDict, part: str, taken: Part) -> None:
    """Refuses codes of another first stage than the run's."""
    if part == FIRST and config.model.codes:
        cached.Codes(config.model.codes).check_first_stage(taken.fingerprint)


def _reads_alike(config: ConfigDict, encoder: ConfigDict | None) -> None:
    if encoder is None:
        raise UserError("parts.text must be a run or an exported model: a lone file has no config")
    same_tokenizer(config, encoder)


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with the tokenizer of its captions filled in, where they are read."""
    return tokenizers.resolve(config) if reads(config) else config


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained prior can do: {"generate": ..., "complete": ...}."""
    return Sampler(PriorLosses(make_sequence(config), config), config).verbs()


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    section.check(config.data, captioned=reads(config))
    if config.data.embeddings:
        raise UserError(
            "a prior reads captions itself: set data.embeddings to '', and give parts.text a run "
            "whose text encoder is to read them"
        )
    if config.model.codes:
        _check_cached(config)
    losses = PriorLosses(make_sequence(config), config)
    sampler = Sampler(losses, config)
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=(Phase("g", ("g",), losses.loss),),
        train_data=lambda: _train_data(config),
        ema={"g": ema} if ema else {},
        evaluate=Evaluator(config, losses, sampler),
        eval_nets=tuple({net: None for verb in sampler.verbs().values() for net in verb.nets}),
        validates=lambda: count_validation(
            config.data, config.eval.captions, captioned=reads(config)
        ),
    )


def _check_cached(config: ConfigDict) -> None:
    """Refuses what codes computed beforehand cannot give."""
    for wanted, name in (
        (config.data.flip, "data.flip"),
        (config.data.crop != "center", f"data.crop={config.data.crop}"),
        (config.model.condition == "image", "model.condition=image"),
    ):
        if wanted:
            raise UserError(f"{name} needs the pictures in each step: set model.codes to ''")


def _train_data(config: ConfigDict) -> tuple[Any, Callable[[Any], Any]]:
    """Pictures, or their codes, with their captions where these are read."""
    model = config.model
    records: Any
    if model.codes:
        records, transform = cached.train_data(config.data, model.codes, reads(config))
    elif reads(config):
        records, transform = examples.train_data(config.data)
    else:
        records, transform = examples.train_pictures(config.data)
    if model.condition != "class":
        return records, transform
    return records, lambda dataset: transform(dataset).map(examples.CheckClass(model.classes))
