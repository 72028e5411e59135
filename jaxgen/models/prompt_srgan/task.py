"""The prompted SRGAN from a config: networks, losses, verb.

Net "g" holds the generator's parameters, by the names of the family srgan's SRResNet, and below
"text" those of the text encoder that is trained along with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen import weights
from jaxgen.data.scenes import examples as scenes
from jaxgen.data.text.prompt import Prompt
from jaxgen.data.text.tokens import WordTokenizer, only_start
from jaxgen.errors import UserError
from jaxgen.keys import Key, Table, weight, whole
from jaxgen.losses import adversarial
from jaxgen.models.prompt_srgan.discriminator import PromptDiscriminator
from jaxgen.models.prompt_srgan.evaluate import evaluate
from jaxgen.models.prompt_srgan.generator import PromptSRResNet
from jaxgen.models.prompt_srgan.text import TextEncoder
from jaxgen.models.srgan.task import TRUNK
from jaxgen.task import Nets, Task
from jaxgen.tasks.common import choose, make_module, module_keys, to_float, with_own
from jaxgen.tasks.sr import config as defaults
from jaxgen.tasks.sr import task as sr
from jaxgen.tasks.sr.losses import SRLosses
from jaxgen.train.state import check_shapes
from jaxgen.verbs import Option
from jaxgen.verbs.upscale.contract import Upscale
from jaxgen.weights import Tree
from jaxgen.weights.keymap import unflatten
from jaxgen.weights.nets import open_nets

STRENGTH = Option(
    1.0, "how much the prompt counts: 0 not at all, above 1 overstated: the result is "
    "empty + strength * (prompted - empty)", least=-100.0, most=100.0,
)  # fmt: skip


GUIDANCE = ("attention", "film")


def keys(config: ConfigDict) -> Table:
    """What the config's own sections hold; see `jaxgen.train.family.check`."""
    del config  # all alike
    generator = module_keys(
        PromptSRResNet, given=("scale",), guidance={"choices": GUIDANCE}, **TRUNK
    )
    return {
        **with_own(
            defaults.KEYS,
            generator=generator,
            text=module_keys(TextEncoder, given=("size",)),
            discriminator=module_keys(PromptDiscriminator),
            trunk=Key("", "a trained SRResNet to start from: a run, an export, a weights file"),
            mismatch=weight(0.5, "weight of real pictures with wrong prompts in D's loss"),
        ),
        "data": scenes.KEYS,
        "eval": {"images": whole(48, "validation scenes")},
    }


def make_generator(config: ConfigDict) -> PromptSRResNet:
    """The generator module of `config.model.generator`.

    Raises:
      UserError: unknown guidance or setting, a scale, or a place that there is not.
    """
    settings = config.model.generator.to_dict()
    choose(dict.fromkeys(GUIDANCE), settings.get("guidance"), "model.generator.guidance")
    guided = tuple(settings.get("guided", ()))
    if not set(guided) <= set(range(1, settings["blocks"] + 1)) or not guided:
        raise UserError(
            f"model.generator.guided={guided}: name some of the {settings['blocks']} blocks"
        )
    if config.data.scale not in (2, 4, 8):
        raise UserError(f"data.scale={config.data.scale}: it upscales by 2, 4 or 8")
    settings["guided"] = guided
    return make_module(PromptSRResNet, "generator", config, scale=config.data.scale, **settings)


def make_text_encoder(config: ConfigDict) -> TextEncoder:
    """The text encoder module of `config.model.text`, for the config's vocabulary."""
    settings = config.model.text.to_dict()
    if settings["width"] % 2:
        raise UserError(f"model.text.width={settings['width']} must be even")
    return make_module(TextEncoder, "text", config, size=make_tokenizer(config).size, **settings)


def make_tokenizer(config: ConfigDict) -> WordTokenizer:
    """The tokenizer of the vocabulary that travels with the config."""
    return WordTokenizer(config.data.vocabulary, config.data.prompt_length)


def verbs(config: ConfigDict) -> dict[str, Any]:
    """What a trained model can do: {"upscale": ...}, with or without a prompt."""
    generator, encoder = make_generator(config), make_text_encoder(config)
    tokenizer = make_tokenizer(config)
    attends = generator.guidance == "attention"
    upscale = Upscale(
        nets=("g",),
        apply=partial(_apply, generator, encoder),
        scale=config.data.scale,
        radius=generator.radius(),
        options={"strength": STRENGTH},
        give=_give,
        read=tokenizer.encode,
        attend=partial(_attend, generator, encoder) if attends else None,
    )
    return {"upscale": upscale}


def make_task(config: ConfigDict) -> Task:
    """The Task of this config; see `jaxgen.task`."""
    scenes.check(config.data)
    losses = PromptLosses(
        make_generator(config),
        make_module(
            PromptDiscriminator, "discriminator", config, **config.model.discriminator.to_dict()
        ),
        make_text_encoder(config),
        config,
    )
    upscale = verbs(config)["upscale"]
    task = sr.make_task(config, losses, upscale)
    return dataclasses.replace(
        task,
        frozen={"perceptual": task.frozen["perceptual"]},
        train_data=lambda: scenes.train_data(config.data),
        evaluate=partial(evaluate, config, upscale),
        validates=lambda: config.eval.images,
        begin=partial(from_trunk, config.model.trunk) if config.model.trunk else None,
    )


class PromptLosses(SRLosses):
    """The losses of `SRLosses`, with a prompt in the batch and for both networks.

    The discriminator also sees real pictures with another example's prompt, as fakes (GAN-CLS,
    Reed et al. 2016, algorithm 1): otherwise it need not read the text.

    Args:
      generator, discriminator, config: see `SRLosses`; they take a prompt's features as well.
      encoder: (tokens, mask) -> Text.
    """

    def __init__(self, generator, discriminator, encoder, config: ConfigDict):
        super().__init__(generator, discriminator, config)
        self.encoder = encoder
        self.mismatch = config.model.mismatch
        if self.mismatch:
            kind = self.loss.adversarial_kind
            self.as_fakes = adversarial.as_fake(kind)

    def init(self, rng, batch):
        """(params, mutable) of net g, text encoder included, and, in a GAN run, d."""
        g_rng, t_rng, d_rng = jax.random.split(rng, 3)
        tokens, mask = batch["tokens"][:1], batch["mask"][:1]
        encoder = self.encoder.init(t_rng, tokens, mask)
        text = self.encoder.apply(encoder, tokens, mask)
        g = self.generator.init(g_rng, to_float(batch["lr"][:1]), text)
        nets = {"g": {**g, "params": {**g["params"], "text": encoder["params"]}}}
        if self.adversarial:
            nets["d"] = self.discriminator.init(d_rng, to_float(batch["hr"][:1]), text.sentence)
        params = {n: v["params"] for n, v in nets.items()}
        rest = {n: {k: v[k] for k in v if k != "params"} for n, v in nets.items()}
        return params, {n: r for n, r in rest.items() if r}

    def discriminate(self, params, mutable, frozen, batch, rng, step):
        """As `SRLosses.discriminate`, and real pictures with wrong prompts as fakes."""
        loss_rng, rng = jax.random.split(rng)
        value, (mutable, metrics) = super().discriminate(
            params, mutable, frozen, batch, loss_rng, step
        )
        if not self.mismatch:
            return value, (mutable, metrics)
        wrong, weight = other_prompts(batch)
        real = to_float(batch["hr"])
        logits, mutable = self._judge(params, mutable, real, wrong, rng, 0, step)
        pairs = jnp.maximum(weight.sum(), 1.0)
        mismatch = (self.as_fakes(logits) * weight).sum() / pairs
        seen = ((logits <= 0) * weight).sum() / pairs
        metrics = {**metrics, "mismatch": mismatch, "mismatch_accuracy": seen}
        return value + self.mismatch * mismatch, (mutable, metrics)

    def _upscale(self, params, mutable, batch, *given):
        text = self.encoder.apply({"params": params["g"]["text"]}, batch["tokens"], batch["mask"])
        return super()._upscale(params, mutable, batch, text, *given)

    def _judge(self, params, mutable, images, batch, rng, stream, step):
        # D takes the prompts as the generator's encoder has them, and does not change that.
        text = self.encoder.apply(
            {"params": jax.lax.stop_gradient(params["g"]["text"])}, batch["tokens"], batch["mask"]
        )
        images = self.noisy(jax.random.fold_in(rng, stream), images, step)
        state = mutable.get("d", {})
        logits, changed = self.discriminator.apply(
            {"params": params["d"], **state}, images, text.sentence, train=True, mutable=list(state)
        )
        return logits, {**mutable, "d": changed} if changed else mutable


def other_prompts(batch) -> tuple[dict[str, jax.Array], jax.Array]:
    """(each example's neighbour's prompt, weight (b,) float32): mismatched pairs for D.

    The weight is 0 where the prompt may be true of the picture (an equal "meaning") and where
    either prompt is empty.
    """
    wrong = {key: jnp.roll(batch[key], 1, axis=0) for key in ("tokens", "mask", "meaning")}
    different = wrong["meaning"] != batch["meaning"]
    weight = different & (wrong["meaning"] != 0) & (batch["meaning"] != 0)
    return wrong, weight.astype(jnp.float32)


# ---- the verb ------------------------------------------------------------------------------------


def _give(prompt: Prompt | None, settings: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    if prompt is None:
        return None
    strength = np.asarray(settings["strength"], np.float32)
    return {"tokens": prompt.tokens, "mask": prompt.mask, "strength": strength}


def _apply(generator, encoder, nets, x, given):
    """Without a prompt: the empty one. With: empty + strength * (prompted - empty)."""
    b = x.shape[0]
    if given is None:
        return _run(generator, encoder, nets, x, *_empty(1, b))
    asked = _repeat(given["tokens"], b), _repeat(given["mask"], b)
    nothing = _empty(len(given["tokens"]), b)
    tokens, mask = (jnp.concatenate(pair) for pair in zip(nothing, asked, strict=True))
    both = _run(generator, encoder, nets, jnp.concatenate([x, x]), tokens, mask)
    empty, guided = jnp.split(both, 2)
    return empty + given["strength"] * (guided - empty)


def _run(generator, encoder, nets, x, tokens, mask, **options):
    variables = nets["g"]
    text = encoder.apply({"params": variables["params"]["text"]}, tokens, mask)
    return generator.apply(variables, x, text, train=False, **options)


def _attend(generator, encoder, nets, x, given):
    """(b, h, w, 3) -> (b, h, w, t): mean of the attention over heads and layers."""
    b = x.shape[0]
    tokens, mask = _repeat(given["tokens"], b), _repeat(given["mask"], b)
    _, found = _run(generator, encoder, nets, x, tokens, mask, mutable=["intermediates"])
    layers = jax.tree.leaves(found["intermediates"])  # (b, heads, h, w, t) each
    return sum(layer.mean(axis=1) for layer in layers) / len(layers)


def _empty(length: int, count: int) -> tuple[jax.Array, jax.Array]:
    tokens, mask = only_start(length)
    return _repeat(tokens, count), _repeat(mask, count)


def _repeat(row, count: int) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(row)[None], (count, len(row)))


# ---- starting from an SRResNet -------------------------------------------------------------------


def from_trunk(source: str, nets: Nets) -> dict[str, Any]:
    """{"g": the initial variables with a trained SRResNet in its places}: `config.model.trunk`.

    A start and no part (`jaxgen.weights.parts`): it is trained on, and net g holds it afterwards.

    Args:
      source: a run, an exported folder, a bundled model or a weights file, with a net "g".

    Raises:
      UserError: nothing of this kind is there, or it is of other sizes.
    """
    try:
        trunk = open_nets(source, ("g",)).nets["g"]
        return {"g": _with_trunk(nets["g"], trunk)}
    except UserError as error:
        raise UserError(f"model.trunk: {error}") from None


def _with_trunk(variables: Tree, trunk: Tree) -> dict[str, Any]:
    """`variables` with all arrays of `trunk` in their places; the guidance keeps its start."""
    ours, theirs = weights.flatten(variables), weights.flatten(trunk)
    guidance = ("params/guide_", "params/text/")
    trained = {k: a for k, a in ours.items() if not k.startswith(guidance)}
    check_shapes("it", trained, theirs)
    merged = {**ours, **{k: jnp.asarray(a) for k, a in theirs.items()}}
    return unflatten(merged)
