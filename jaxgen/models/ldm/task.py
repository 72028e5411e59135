"""Latent diffusion from a config: what it is made of, its data, loss and verb."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.data import cached
from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.data.captioned.paired import MakePaired
from jaxgen.data.captioned.records import open_records
from jaxgen.errors import UserError, shown
from jaxgen.keys import Table
from jaxgen.log import log
from jaxgen.models.ldm.change import CHANGE
from jaxgen.models.ldm.clip_text import check_reads
from jaxgen.models.ldm.condition import TEXT
from jaxgen.models.ldm.edit import edit_verb
from jaxgen.models.ldm.evaluate import Evaluator
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.models.ldm.networks import denoiser_keys
from jaxgen.models.ldm.sampler import Sampler
from jaxgen.models.ldm.space import FIRST
from jaxgen.task import Phase, Task
from jaxgen.tasks.ldm.config import CHANGE as CHANGES
from jaxgen.tasks.ldm.config import EVAL, MODEL, PRIOR
from jaxgen.tasks.t2i.text_part import same_tokenizer
from jaxgen.verbs.offered import latents_of
from jaxgen.weights.keymap import flatten
from jaxgen.weights.nets import locate
from jaxgen.weights.parts import Part, Wanted
from jaxgen.weights.places import CONFIG


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    return {
        "data": {**section.KEYS, **section.BUCKETS},
        "model": {**MODEL, **_fine_tuning(config), "denoiser": denoiser_keys(config)},
        "eval": EVAL,
    }


def _fine_tuning(config: ConfigDict) -> Table:
    """The sections that fine-tuning has; others lack them."""
    known: Table = {CHANGE: CHANGES, "prior": PRIOR}
    return {name: known[name] for name in known if name in config.model}


def parts(config: ConfigDict) -> dict[str, Wanted]:
    """What a model may be made of: an autoencoder, of texts a trained encoder, and a denoiser that
    stays as it is while `model.change` is learned beside it.

    Raises:
      UserError: a part that the condition has no use for.
    """
    first = Wanted(
        nets=("g",), needed=False, fits=_fits, trains=lambda taken: _check_latents(config, taken),
        within=True,
    )  # fmt: skip
    below = Wanted(
        families=("ldm",), nets=("g",), needed=False, fits=lambda given: _same_net(config, given),
        alone=True,
    )  # fmt: skip
    wanted = {FIRST: first, "g": below}
    if config.model.get("condition") == "text":
        wanted[TEXT] = Wanted(
            nets=("text",), needed=False, fits=lambda given: _reads_alike(config, given),
            within=True,
        )  # fmt: skip
    elif config.get("parts", {}).get(TEXT):
        raise UserError(f"parts.{TEXT} is of model.condition=text; leave it empty")
    return wanted


def _fits(config: ConfigDict | None) -> None:
    latents_of(config, f"parts.{FIRST}")


def _same_net(config: ConfigDict, given: ConfigDict | None) -> None:
    """Refuses a denoiser of other settings than the run's."""
    if given is None:
        raise UserError("parts.g must be a run or an exported model: a lone file has no config")
    _check_merged(given, "parts.g")
    kept = ("denoiser.dropout", "denoiser.remat")
    own, other = (flatten(one.model.to_dict()) for one in (config, given))
    for path, value in other.items():
        key = path.replace("/", ".")
        compared = key.startswith(("denoiser.", "schedule.")) or key in ("condition", "target")
        if compared and key not in kept and path in own and own[path] != value:
            raise UserError(
                f"parts.g has model.{key}={shown(value)}, and the config {shown(own[path])}: set "
                "it so, or take another model"
            )


def _check_merged(given: ConfigDict, name: str) -> None:
    """Refuses a model whose net is not the whole of what it draws with."""
    change = given.model.get(CHANGE, {})
    if any(change.get(key) for key in ("rank", "text_rank", "text")):
        raise UserError(
            f"{name} is a model with changes beside its nets, which would be left out: merge them "
            "before, jaxgen convert MODEL -o FOLDER"
        )


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
    _check_begin(config)
    losses = LDMLosses(config)
    _check_reader(config, losses)
    _check_change(config, losses)
    _check_made(config, losses)
    _check_size(config, losses)
    evaluator = Evaluator(config, losses)
    trained = ("g", TEXT) if model.condition == "text" and not losses.condition.fixed else ("g",)
    if losses.change is not None:
        trained = (CHANGE,)
    return Task(
        init=losses.init,
        phases=(Phase("g", trained, losses.loss),),
        train_data=lambda: _train_data(config, losses),
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
    if (prior := config.model.get("prior")) and prior.pictures:
        _check_prior(config)
    if not config.model.latents:
        return
    if losses.space.verb is None:
        raise UserError("model.latents needs the autoencoder that made them: parts.first_stage")
    for wanted, name in (
        (config.data.flip, "data.flip"),
        (config.data.crop != "center", f"data.crop={config.data.crop}"),
        (section.bucketed(config.data), "data.bucket_ratio"),
    ):
        if wanted:
            raise UserError(f"{name} needs the pictures in each step: set model.latents to ''")


def _check_prior(config: ConfigDict) -> None:
    """What the pictures of a class need."""
    if section.bucketed(config.data):
        raise UserError(
            "model.prior has pictures of a class beside each, all of one shape: set "
            "data.bucket_ratio to 1"
        )
    if config.model.condition != "text" or not config.model.prior.texts:
        raise UserError(
            "model.prior.pictures needs model.prior.texts, what they are called, such as "
            '("a photo of a dog",)'
        )
    if config.model.latents or config.data.embeddings:
        raise UserError(
            "model.prior reads pictures in each step: set model.latents and data.embeddings to ''"
        )


def _check_size(config: ConfigDict, losses: LDMLosses) -> None:
    patch, size = config.model.denoiser.patch, losses.space.shape(*[config.data.size] * 2)[0]
    if size % patch:
        raise UserError(
            f"model.denoiser.patch={patch} does not divide the {size} places of data.size="
            f"{config.data.size}"
        )
    places = patch * losses.space.factor
    section.check_step(config.data, places, "the pixels of one of the denoiser's places")


def _check_begin(config: ConfigDict) -> None:
    """Refuses to begin with a net of another family, and says where it says something else."""
    source = config.train.init_from.get("g")
    about = locate(source) / CONFIG if source else None
    if about is None or not about.is_file():
        return  # a lone file, or a run that goes on without what it began with
    given = configs.from_json(about)
    if given.family != "ldm":
        raise UserError(
            f"train.init_from.g={source} is of the family {given.family}: give a diffusion model, "
            "such as jaxgen convert makes of Stable Diffusion"
        )
    _check_merged(given, "train.init_from.g")
    if given.model.target != config.model.target:
        log.warning(
            "train.init_from.g=%s predicts %s, and this run learns model.target=%s",
            source, given.model.target, config.model.target,
        )  # fmt: skip


def _check_reader(config: ConfigDict, losses: LDMLosses) -> None:
    """Refuses to read captions by another tokenizer than the text encoder's."""
    tower = losses.condition.captions is not None
    if losses.condition.kind == "text" and tower != (config.data.tokenizer == "clip"):
        raise UserError(
            "parts.text is a text tower of CLIP, which reads by its own tokenizer: set "
            "data.tokenizer=clip" if tower else
            "data.tokenizer=clip is that of a CLIP's text tower: give one as parts.text, such as a "
            "converted Stable Diffusion"
        )  # fmt: skip
    if tower and not config.data.embeddings:
        check_reads(config.parts[TEXT])


def _check_change(config: ConfigDict, losses: LDMLosses) -> None:
    """Whether what is learned beside a net, and that net, are both there."""
    below = isinstance(config.get("parts", {}).get("g"), ConfigDict)
    if losses.change is not None and not below:
        raise UserError(
            "model.change is learned beside a denoiser that stays as it is: give it as parts.g"
        )
    if below and losses.change is None:
        raise UserError(
            "parts.g stays as it is, and model.change says nothing that is learned beside it: set "
            "its rank, text_rank, text or words"
        )


def _train_data(config: ConfigDict, losses: LDMLosses) -> Any:
    """Pictures or their latents, with their captions or classes where these are asked for."""
    condition, latents = config.model.condition, config.model.latents
    read = None if config.data.embeddings else losses.condition.captions
    records: Any
    if latents:
        reads = condition != "none"
        records, transform = cached.train_data(config.data, latents, reads, cached.Latents, read)
    elif condition == "none":
        return examples.train_pictures(config.data)
    else:
        records, transform = examples.train_data(config.data, read)
    if (prior := config.model.get("prior")) and prior.pictures:
        paired = _paired(config, read)
        return records, lambda dataset: dataset.random_map(paired)
    if condition != "class":
        return records, transform
    return records, lambda dataset: transform(dataset).map(
        examples.CheckClass(config.model.classes)
    )


def _paired(config: ConfigDict, read: examples.ReadCaptions | None) -> MakePaired:
    """What makes an example of a picture and of one of its class."""
    prior = config.model.prior
    data = config.data.copy_and_resolve_references()
    with data.unlocked():
        data.update(
            source="folder", path=prior.pictures, captions="", texts=prior.texts, holdout=0.0
        )
    try:
        records = open_records(data, "train")
    except UserError as error:
        raise UserError(f"model.prior.pictures: {error}") from None
    make = examples.MakeExample(config.data, read)
    return MakePaired(make, records, examples.MakeExample(data, read))
