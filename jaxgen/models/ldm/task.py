"""Latent diffusion from a config: what it is made of, its data, loss and verb."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen.data import cached
from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.errors import UserError
from jaxgen.keys import Table
from jaxgen.models.ldm.condition import TEXT
from jaxgen.models.ldm.edit import edit_verb
from jaxgen.models.ldm.evaluate import Evaluator
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.models.ldm.networks import denoiser_keys
from jaxgen.models.ldm.sampler import Sampler
from jaxgen.models.ldm.space import FIRST
from jaxgen.task import Phase, Task
from jaxgen.tasks.ldm.config import EVAL, MODEL
from jaxgen.tasks.t2i.text_part import same_tokenizer
from jaxgen.verbs.offered import latents_of
from jaxgen.weights.parts import Part, Wanted


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    return {
        "data": section.KEYS,
        "model": {**MODEL, "denoiser": denoiser_keys(config)},
        "eval": EVAL,
    }


def parts(config: ConfigDict) -> dict[str, Wanted]:
    """What a model may be made of: an autoencoder, and of texts a trained encoder.

    Raises:
      UserError: a part that the condition has no use for.
    """
    first = Wanted(
        nets=("g",), needed=False, fits=_fits, trains=lambda taken: _check_latents(config, taken)
    )
    wanted = {FIRST: first}
    if config.model.get("condition") == "text":
        wanted[TEXT] = Wanted(
            nets=("text",), needed=False, fits=lambda given: _reads_alike(config, given)
        )
    elif config.get("parts", {}).get(TEXT):
        raise UserError(f"parts.{TEXT} is of model.condition=text; leave it empty")
    return wanted


def _fits(config: ConfigDict | None) -> None:
    latents_of(config, f"parts.{FIRST}")


def _check_latents(config: ConfigDict, taken: Part) -> None:
    """Refuses latents of another autoencoder than the run's."""
    if config.model.latents:
        cached.Latents(config.model.latents).check_first_stage(taken.fingerprint)


def _reads_alike(config: ConfigDict, encoder: ConfigDict | None) -> None:
    if encoder is None:
        raise UserError("parts.text must be a run or an exported model: a lone file has no config")
    if encoder.family == "clip":  # Stable Diffusion's tower, which has a tokenizer of its own
        if "image" in encoder.model:
            raise UserError("parts.text must be a text tower alone, and this is a whole CLIP")
        return
    same_tokenizer(config, encoder)


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with the tokenizer of its captions filled in, where they are read."""
    return tokenizers.resolve(config) if config.model.condition != "none" else config


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained model can do: {"generate": ..., "edit": ...}; by instructions only to edit."""
    losses = LDMLosses(config)
    edit = {"edit": edit_verb(losses, config)}
    return edit if losses.instruct else {"generate": Sampler(losses, config).generate(), **edit}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`.

    Raises:
      UserError: settings that do not go together.
    """
    model = config.model
    if model.get("instruct", False):
        raise UserError(
            "model.instruct=True is not trained here: convert InstructPix2Pix's weights, or leave "
            "it out"
        )
    section.check(config.data, captioned=model.condition != "none")
    losses = LDMLosses(config)
    _check_made(config, losses)
    _check_size(config, losses)
    evaluator = Evaluator(config, losses)
    trained = ("g", TEXT) if model.condition == "text" and not losses.condition.fixed else ("g",)
    return Task(
        init=losses.init,
        phases=(Phase("g", trained, losses.loss),),
        train_data=lambda: _train_data(config),
        ema=dict.fromkeys(trained, model.ema) if model.ema else {},
        evaluate=evaluator,
        eval_nets=evaluator.verb.nets,
    )


def _check_made(config: ConfigDict, losses: LDMLosses) -> None:
    """Refuses what latents and features computed beforehand cannot give."""
    if config.data.embeddings and not losses.condition.fixed:
        raise UserError(
            "data.embeddings leaves no text encoder to train: give parts.text the run whose "
            "encoder made the file"
        )
    if not config.model.latents:
        return
    if losses.space.verb is None:
        raise UserError("model.latents needs the autoencoder that made them: parts.first_stage")
    for wanted, name in (
        (config.data.flip, "data.flip"),
        (config.data.crop != "center", f"data.crop={config.data.crop}"),
    ):
        if wanted:
            raise UserError(f"{name} needs the pictures in each step: set model.latents to ''")


def _check_size(config: ConfigDict, losses: LDMLosses) -> None:
    patch, size = config.model.denoiser.patch, losses.space.shape(*[config.data.size] * 2)[0]
    if size % patch:
        raise UserError(
            f"model.denoiser.patch={patch} does not divide the {size} places of data.size="
            f"{config.data.size}"
        )


def _train_data(config: ConfigDict) -> Any:
    """Pictures or their latents, with their captions or classes where these are asked for."""
    condition, latents = config.model.condition, config.model.latents
    records: Any
    if latents:
        reads = condition != "none"
        records, transform = cached.train_data(config.data, latents, reads, cached.Latents)
    elif condition == "none":
        return examples.train_pictures(config.data)
    else:
        records, transform = examples.train_data(config.data)
    if condition != "class":
        return records, transform
    return records, lambda dataset: transform(dataset).map(
        examples.CheckClass(config.model.classes)
    )
