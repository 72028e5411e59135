"""The README.md of an exported folder: what the model is, where its weights come from, its use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from jaxgen.data.captioned.source import find_source
from jaxgen.errors import UserError

if TYPE_CHECKING:
    from jaxgen.runs.model import Model


def model_card(name: str, model: Model) -> str:
    """Markdown text.

    Args:
      name: of the exported folder.
      model: what is exported; a config with `origin` is of converted weights.
    """
    config, prompt = model.config, _example(model.config)
    lines = [f"# {name}", "", _summary(model), ""]
    if model.metrics:
        lines += ["| evaluation | value |", "|---|---|"]
        lines += [*(f"| {key} | {value:.4g} |" for key, value in sorted(model.metrics.items())), ""]
    if model.verbs:
        examples = [verb.example(name, prompt) for verb in model.verbs.values()]
        lines += ["```python", "import jaxgen", "", f'model = jaxgen.load("{name}")']
        lines += [*(python for python, _ in examples), "```", ""]
        if commands := [command for _, command in examples if command]:
            lines += ["```bash", *commands, "```", ""]
    elif "origin" in config:
        lines += [
            f'The net "{config.origin.net}" alone, to train from: give the folder as '
            f"`train.init_from.{config.origin.net}` of the config.",
            "",
        ]
    whole = "the network's settings" if "origin" in config else "every setting of the training run"
    return "\n".join([*lines, f"`config.json` holds {whole}.", ""])


def _summary(model: Model) -> str:
    what = ", ".join(verb.says() for verb in model.verbs.values()) or "Image model"
    text = f"{what}, family {model.family}, {model.parameters:,} parameters, "
    origin = model.config.get("origin")
    if origin is not None:
        return f"{text}converted from {origin.file} ({origin.layout}: {sizes_text(origin.sizes)})."
    mixed = model.config.get("interpolation")
    if mixed is not None:
        return f"{text}{1 - mixed.alpha:g} x {mixed.a} + {mixed.alpha:g} x {mixed.b}."
    source = _source(model.config)
    on = f" on {source}" if source else ""
    return f"{text}trained for {model.step:,} steps{on}."


def _source(config: ConfigDict) -> str:
    source: Any = config.get("data", {}).get("source", "")
    return source if isinstance(source, str) else ""


def _example(config: ConfigDict) -> str:
    """What the model can be asked for, by what it was trained on."""
    try:
        return find_source(_source(config)).EXAMPLE
    except UserError:  # converted weights, or a source of elsewhere
        return "a text"


def sizes_text(sizes: Mapping[str, Any]) -> str:
    """ "blocks 16, features 64, scale 4"."""
    return ", ".join(f"{key} {value}" for key, value in sorted(sizes.items()))
