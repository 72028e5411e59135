"""What was learned beside a model's nets (`jaxgen.models.ldm.change`): merged, and as files.

Low-rank changes go to LoRA files in kohya's and diffusers' layouts, new words to those of textual
inversion, which are read, too. In a model that is merged, nothing stays beside the nets but words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxgen import keys, weights
from jaxgen.edit import low_rank
from jaxgen.errors import UserError
from jaxgen.models.clip.text import HF_TEXT
from jaxgen.models.ldm import lora
from jaxgen.models.ldm.change import CHANGE, TABLE, Change, make_change
from jaxgen.models.ldm.condition import TEXT, make_condition
from jaxgen.models.ldm.unet_layout import DIFFUSERS
from jaxgen.tasks.ldm.config import CHANGE as CHANGES
from jaxgen.weights.keymap import source_of
from jaxgen.weights.layout import Addition, Gathered
from jaxgen.weights.parts import filled


def merged(model: Gathered) -> Gathered:
    """The same model with its changes in its nets; new words stay beside them, as whole vectors."""
    change = _change(model)
    if change is None:
        return model
    below = {name: part.nets[name] for name, part in model.parts.items() if name in ("g", TEXT)}
    applied = jax.tree.map(np.asarray, change.applied({**below, **model.nets}))
    config, own = model.config.copy_and_resolve_references(), {"g": applied["g"]}
    parts = {name: part for name, part in model.parts.items() if name != "g"}
    with config.unlocked():
        if "g" in config.parts:
            del config.parts["g"]
        words = tuple(change.settings.words)
        del config.model[CHANGE]
        if words:
            table = applied[TEXT]["params"][TABLE]
            params = {**applied[TEXT]["params"], TABLE: table[: -len(words)]}
            applied[TEXT] = {**applied[TEXT], "params": params}
            own[CHANGE] = {"params": {"words": table[-len(words) :]}}
            config.model[CHANGE] = keys.changed(CHANGES, "model.change", {"words": words})
    if TEXT in parts:
        parts[TEXT] = dataclasses.replace(parts[TEXT], nets={TEXT: applied[TEXT]})
    return Gathered(config, own, parts)


def whole(model: Gathered) -> Gathered:
    """As `merged`, for forms that hold a model's nets alone.

    Raises:
      UserError: it has new words.
    """
    model = merged(model)
    if CHANGE in model.nets:
        raise UserError(
            f"the new words of this model ({', '.join(model.config.model.change.words)}) have no "
            f'place in this form: write them apart, --layout "{LEARNED.name}"'
        )
    return model


# -------------------------------------------------------------------------------------------- LoRA


def _write_lora(
    pack: Callable[[Mapping[str, Mapping[str, lora.Change]]], dict[str, np.ndarray]],
    model: Gathered,
    target: Path,
) -> int:
    """The low-rank changes as a LoRA file; returns the number of its tensors."""
    change = _change(model)
    if change is None or not (change.settings.rank or change.settings.text_rank):
        raise UserError(
            "the model has no low-rank changes (model.change.rank), so there is no LoRA"
        )
    if change.settings.text:
        raise UserError(
            "all of the text encoder was trained (model.change.text), which a LoRA file does not "
            "hold: convert the run whole"
        )
    below = filled(model.config, model.parts)
    found: dict[str, dict[str, lora.Change]] = {"unet": {}, "text": {}}
    for net, name, layout, rank in (
        ("g", "unet", DIFFUSERS, change.settings.rank),
        (TEXT, "text", HF_TEXT, change.settings.text_rank),
    ):
        if not rank:
            continue
        sizes = layout.read(below if net == "g" else below.parts[TEXT])
        if sizes is None:
            raise UserError(f"the net {net} has no published form, and so no LoRA file")
        own = low_rank.flat(model.nets[CHANGE]["params"][net])
        alpha = change.settings.alpha or float(rank)
        for path, one in own.items():
            key = source_of(f"params/{path}", layout.rules(sizes))
            assert key is not None  # the layout has all of the net's layers
            down, up = (np.asarray(one[half]).T for half in ("down", "up"))
            found[name] |= lora.layers_of(key.removesuffix(".weight"), down, up, alpha)
    tensors = pack(found)
    weights.write_tensors(target, tensors)
    return len(tensors)


KOHYA = Addition("kohya LoRA", lambda model, target: _write_lora(lora.kohya, model, target))
DIFFUSERS_LORA = Addition(
    "diffusers LoRA", lambda model, target: _write_lora(lora.diffusers, model, target)
)


# --------------------------------------------------------------------------------------- new words


def _write_words(model: Gathered, target: Path) -> int:
    """The new words' vectors as diffusers has them, {word: (d,) or (n, d)}; how many words."""
    model = merged(model)
    if CHANGE not in model.nets:
        raise UserError("the model has no new words (model.change.words)")
    rows, tensors = model.nets[CHANGE]["params"]["words"], {}
    words = np.array(model.config.model.change.words)
    for word in dict.fromkeys(words.tolist()):
        vectors = rows[words == word]
        tensors[word] = vectors[0] if len(vectors) == 1 else vectors
    weights.write_tensors(target, tensors)
    return len(tensors)


LEARNED = Addition("learned embeddings", _write_words)


def add_words(model: Gathered, path: Path) -> Gathered:
    """A model with the words of a file of textual inversion.

    diffusers' files name the words; in AUTOMATIC1111's (`string_to_param`, `emb_params`) the file's
    own name is the word.

    Raises:
      UserError: another kind of file, of another text encoder, or a word that there is.
    """
    model = merged(model)
    if TEXT not in model.parts:
        raise UserError(f"{path}: new words are for a model with a text tower of CLIP as its part")
    width = model.parts[TEXT].nets[TEXT]["params"][TABLE].shape[1]
    words: list[str] = list(model.config.model.get(CHANGE, {}).get("words", ()))
    rows = [model.nets[CHANGE]["params"]["words"]] if words else []
    for word, vectors in _read_words(path).items():
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != width:
            raise UserError(
                f"{path}: the vectors of {word} are {vectors.shape}, and those of this model's "
                f"text encoder {width} wide: it is of another base model"
            )
        if word in words:
            raise UserError(f"{path}: the model has the word {word} already")
        rows.append(np.atleast_2d(vectors).astype(np.float32))
        words += [word] * len(rows[-1])
    config = model.config.copy_and_resolve_references()
    with config.unlocked():
        config.model[CHANGE] = keys.changed(CHANGES, "model.change", {"words": tuple(words)})
    nets = {**model.nets, CHANGE: {"params": {"words": np.concatenate(rows)}}}
    new = Gathered(config, nets, model.parts)
    _change(new)  # whether the words can be
    return new


def _read_words(path: Path) -> dict[str, np.ndarray]:
    """{word: vectors} of a file."""
    tensors = weights.read_tensors(path)
    inside = {k: v for k, v in tensors.items() if k.startswith(("string_to_param", "emb_params"))}
    if inside:
        return {path.stem: next(iter(inside.values()))}
    if any("." in key or value.ndim > 2 for key, value in tensors.items()):
        some = ", ".join(sorted(tensors)[:3])
        raise UserError(f"{path}: no file of textual inversion: it holds {some}")
    return tensors


# --------------------------------------------------------------------------------------------- both


def _change(model: Gathered) -> Change | None:
    """What was learned beside a model's nets."""
    if CHANGE not in model.nets:
        return None
    config: ConfigDict = filled(model.config, model.parts)
    return make_change(config, make_condition(config))


ADDITIONS = (KOHYA, DIFFUSERS_LORA, LEARNED)
