"""The prior from a config: what it is made of, its data, losses and verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from jaxgen.data import cached
from jaxgen.data.captioned import examples, section, tokenizers
from jaxgen.errors import UserError
from jaxgen.keys import Key, Table, share, weight, whole
from jaxgen.models.prior.evaluate import Evaluator
from jaxgen.models.prior.layout import (
    CONDITIONS,
    FIRST,
    SECOND,
    TEXT,
    encode_of,
    make_sequence,
)
from jaxgen.models.prior.losses import PriorLosses
from jaxgen.models.prior.networks import FORMS
from jaxgen.models.prior.orders import ORDERS
from jaxgen.models.prior.sampler import Sampler
from jaxgen.task import Phase, Task
from jaxgen.tasks.common import module_keys
from jaxgen.tasks.t2i.text_part import same_tokenizer
from jaxgen.weights.parts import Wanted

MODEL: Table = {
    "form": Key("gpt", "one code after the other, or MaskGIT's, in parallel", choices=tuple(FORMS)),
    "condition": Key(
        "text",
        "what stands in front: nothing, a class (the record's meaning), its caption, or the codes "
        "that `parts.condition` has for the picture",
        choices=CONDITIONS,
    ),
    "classes": whole(0, "class: their number", 0),
    "shared_ids": Key(False, "the condition's ids are the codes', as published (ImageNet's 1.4B)"),
    "length": whole(0, "positions of the transformer; 0: as many as are needed", 0),
    "order": Key("rows", "of the cells in the sequence", choices=tuple(ORDERS)),
    "pkeep": share(1.0, "gpt: share of the codes before a code that it sees as they are"),
    "drop_condition": Key(
        0.0, "share of the examples without their condition, for guidance", least=0, below=1
    ),
    "codes": Key("", 'file of codes (jaxgen prepare codes); "": encoded in each step'),
    "masking": {
        "least": share(0.5, "maskgit: least share of the codes that are masked"),
        "label_smoothing": Key(0.1, "maskgit", least=0, below=1),
    },
    "sampling": {  # the verbs' options where nobody sets them
        "temperature": Key(1.0, "of the logits", above=0, most=1000),
        "top_k": whole(0, "gpt: of so many codes; 0: all", 0),
        "top_p": share(1.0, "gpt: of codes with so much probability together"),
        "guidance": weight(1.0, "how much the condition counts, where it was dropped"),
        "steps": whole(12, "maskgit: in so many all codes are drawn"),
        "choice_temperature": weight(4.5, "maskgit: how freely the codes to keep are chosen"),
    },
    "ema": Key(0.999, "decay of the transformer's average; 0: none", least=0, below=1),
}
EVAL: Table = {
    "captions": whole(200, "validation records, and as many held-out ones"),
    "pictures": whole(8, "captions in the sample grid"),
    "noises": whole(4, "pictures per caption, for diversity and the grid", 2),
}


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    form = FORMS.get(config.model.get("form"), FORMS["gpt"])
    sizes = ("ids", "codes", "length")
    limits: dict[str, Any] = {"dropout": {"below": 1, "most": None}}
    if "mlp" in form.__dataclass_fields__:
        limits["mlp"] = {"least": 0}
    transformer = module_keys(form, given=sizes, **limits)
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
        return Wanted(nets=("g",), needed=needed, fits=lambda given: _fits(part, given))

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
    encode_of(part, config)


def _reads_alike(config: ConfigDict, encoder: ConfigDict | None) -> None:
    if encoder is None:
        raise UserError("parts.text must be a run or an exported model: a lone file has no config")
    same_tokenizer(config, encoder)


def resolve(config: ConfigDict) -> ConfigDict:
    """The config with the tokenizer of its captions filled in."""
    return tokenizers.resolve(config)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained prior can do: {"generate": ..., "complete": ...}."""
    return Sampler(PriorLosses(make_sequence(config), config), config).verbs()


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    section.check(config.data)
    if config.data.embeddings:
        raise UserError(
            "a prior reads captions itself: set data.embeddings to '', and give parts.text a run "
            "whose text encoder is to read them"
        )
    sequence = make_sequence(config)
    losses = PriorLosses(sequence, config)
    sampler = Sampler(losses, config)
    ema = config.model.ema
    return Task(
        init=losses.init,
        phases=(Phase("g", ("g",), losses.loss),),
        train_data=lambda: _train_data(config),
        ema={"g": ema} if ema else {},
        evaluate=Evaluator(config, losses, sampler),
        eval_nets=tuple({net: None for verb in sampler.verbs().values() for net in verb.nets}),
    )


def _train_data(config: ConfigDict) -> tuple[Any, Callable[[Any], Any]]:
    """Captioned pictures, or their codes with their captions."""
    model = config.model
    if model.codes:
        records, transform = cached.train_data(config.data, model.codes, cached.about(config))
    else:
        records, transform = examples.train_data(config.data)
    if model.condition != "class":
        return records, transform
    return records, lambda dataset: transform(dataset).map(CheckClass(model.classes))


class CheckClass:
    """Refuses examples of classes that the transformer has no id for."""

    def __init__(self, classes: int):
        self.classes = classes

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        if not 0 <= example["meaning"] < self.classes:
            raise UserError(
                f"model.classes={self.classes}: the data have a class {int(example['meaning'])}; "
                "set it above the largest"
            )
        return example
