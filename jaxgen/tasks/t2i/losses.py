"""Text-to-image GANs' losses, whatever the networks.

One function of `T2ILosses` for each phase. Mismatched pairs are real pictures with another
example's sentence (Reed et al. 2016, GAN-CLS), and never one that may be true of the picture. The
weights are those of the config section `model.loss`; see `jaxgen.tasks.t2i.config.t2i_loss`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxgen.losses import adversarial, cutmix, diff_augment, matching, mode_seeking
from jaxgen.losses.gradient_penalty import input_gradient_norms, matching_aware_penalty
from jaxgen.losses.text_to_image import fool_loss, judge_loss, mismatched, weighted_mean
from jaxgen.nn import spectral_norm
from jaxgen.nn.match import MatchEncoder
from jaxgen.nn.text import Text
from jaxgen.nn.unet_discriminator import UNetDiscriminator
from jaxgen.tasks.common import choose, to_float
from jaxgen.tasks.t2i import features

NORMS = "spectral_vectors"  # D's collection where the task normalises its kernels


class T2ILosses:
    """The phases' loss functions, and the nets' initial variables.

    A batch holds image (b, n, n, 3) uint8, tokens (b, t) int32, mask (b, t) bool and meaning (b,)
    int32: where two examples' meanings differ, neither's caption is true of the other's picture.
    With `data.embeddings`: words (b, t, w) and sentence (b, e) in place of tokens.

    Args:
      encoder: (tokens, mask, train) -> Text.
      generator: (z (b, *noise), Text, train) -> Drawn; has `noise`.
      discriminator: (pictures (b, n, n, 3), sentences ((b, e), ...), train) -> one Judgement for
        each of the sentences. May have state, and use rng "dropout".
      config: the run's.
    """

    def __init__(self, encoder: Any, generator: Any, discriminator: Any, config: ConfigDict):
        self.encoder, self.generator, self.discriminator = encoder, generator, discriminator
        self.config, self.loss = config, config.model.loss
        self.begin = config.model.damsm_steps  # the GAN's first step
        choose(dict.fromkeys(adversarial.KINDS), self.loss.kind, "model.loss.kind")
        self.augmentations = diff_augment.parse(self.loss.augment)
        matches = config.model.damsm_steps or self.loss.damsm
        self.matcher = MatchEncoder(**config.model.match.to_dict()) if matches else None

    def init(self, rng, batch):
        """(params, mutable) of all nets."""
        rngs = dict(zip(("text", "g", "d", "match"), jax.random.split(rng, 4), strict=True))
        image = to_float(batch["image"][:2])
        nets: dict[str, Any] = {}
        nets["text"], text = features.init_text(self.encoder, self.config, rngs["text"], batch)
        z = jnp.zeros((2, *self.generator.noise))
        nets["g"] = self.generator.init(rngs["g"], z, text)
        sentences = (self.condition({n: v["params"] for n, v in nets.items()}, text),)
        nets["d"] = self.discriminator.init(rngs["d"], image, sentences)
        if self.loss.spectral_norm and not isinstance(self.discriminator, UNetDiscriminator):
            vectors = spectral_norm.start_tree(rngs["d"], nets["d"]["params"])
            nets["d"] = {**nets["d"], NORMS: vectors}
        if self.matcher is not None:
            nets["match"] = self.matcher.init(rngs["match"], image)
        params = {n: v["params"] for n, v in nets.items()}
        rest = {n: {k: v[k] for k in v if k != "params"} for n, v in nets.items()}
        return params, {n: r for n, r in rest.items() if r}

    # ---- the phases' losses ----------------------------------------------------------------------

    def match(self, params, mutable, frozen, batch, rng, step):
        """DAMSM: words with regions and sentences with pictures (AttnGAN, eq. 7 to 13)."""
        del frozen, step
        text = self.read(params, batch, rng, train=True)
        value, metrics = self.matching(params["match"], to_float(batch["image"]), text, batch)
        return value, (mutable, metrics)

    def discriminate(self, params, mutable, frozen, batch, rng, step, penalized=True):
        """D: real pairs against mismatched and generated ones, and the penalties.

        Args: penalized: whether these are due; they are `penalty_every` times as strong then.
        """
        del frozen
        loss = self.loss
        z_rng, text_rng, augment_rng, rng = jax.random.split(rng, 4)
        text = self.read(params, batch, text_rng)
        if self.config.model.text.trained_by not in ("d", "both"):
            text = jax.lax.stop_gradient(text)
        drawn, _ = self.draw(params, mutable, text, self.noise(z_rng, batch, step))
        fake = jax.lax.stop_gradient(drawn.image)
        real = to_float(batch["image"])
        sentence = self.condition(params, text)
        likeness = None
        if loss.mismatch_hardest:
            likeness = matching.sentence_similarity(sentence, sentence)
        partner, weight = mismatched(batch["meaning"], likeness)
        wrong = jnp.take(sentence, partner, axis=0)
        before = mutable
        # Real and generated pictures are augmented each in its own way.
        a_rng, b_rng = jax.random.split(augment_rng)
        real_seen = self.augment(a_rng, real)
        fake_seen = self.augment(b_rng, fake)
        (right, mis), mutable = self.judge(params, mutable, real_seen, (sentence, wrong), rng)
        (made,), mutable = self.judge(params, mutable, fake_seen, (sentence,), rng)
        value = judge_loss(loss, right, mis, weight, made)
        metrics = {
            "real": right.pair.mean(),
            "fake": made.pair.mean(),
            "mismatch": weighted_mean(mis.pair, weight),
            "accuracy": adversarial.accuracy(right.pair, made.pair),
        }
        if loss.cutmix:
            mix_rng, rng = jax.random.split(rng)
            judge = lambda x: self.judge(params, before, x, (sentence,), rng)[0][0]  # noqa: E731
            part, more = cutmix.losses(
                mix_rng, judge, real_seen, fake_seen, right, made, loss.cutmix_probability,
                loss.cutmix_warmup, step - self.begin,
            )  # fmt: skip
            value, metrics = value + loss.cutmix * part, {**metrics, **more}
        if penalized and not loss.penalty_apart:
            found = self.penalty(params, before, real_seen, sentence, rng)
            part, more = jax.tree.map(lambda x: loss.penalty_every * x, found)
            value, metrics = value + part, {**metrics, **more}
        return value, (mutable, metrics)

    def penalize(self, params, mutable, frozen, batch, rng, step):
        """The gradient penalties in an update of their own (DF-GAN's first version)."""
        del frozen, step
        text_rng, augment_rng, rng = jax.random.split(rng, 3)
        text = jax.lax.stop_gradient(self.read(params, batch, text_rng))
        real = self.augment(augment_rng, to_float(batch["image"]))
        value, metrics = self.penalty(params, mutable, real, self.condition(params, text), rng)
        return value, (mutable, metrics)

    def generate(self, params, mutable, frozen, batch, rng, step):
        """G: the adversarial loss, and what the config adds to it."""
        del frozen
        loss = self.loss
        z_rng, text_rng, augment_rng, rng = jax.random.split(rng, 4)
        text = self.read(params, batch, text_rng)
        z = self.noise(z_rng, batch, step)
        drawn, changed = self.draw(params, mutable, text, z)
        sentence = self.condition(params, text)
        seen = self.augment(augment_rng, drawn.image)
        # D's statistics move in its own phase only.
        (made,), _ = self.judge(params, mutable, seen, (jax.lax.stop_gradient(sentence),), rng)
        parts = {"adversarial": fool_loss(self.loss, made)}
        if drawn.kl is not None and loss.kl:
            parts["kl"] = loss.kl * drawn.kl
        if loss.interpolate:
            parts["interpolate"] = loss.interpolate * self._interpolated(params, mutable, text, rng)
        if loss.mode_seeking:
            other = jax.random.normal(jax.random.fold_in(z_rng, 1), z.shape, z.dtype)
            second, _ = self.draw(params, mutable, text, other)
            parts["mode_seeking"] = loss.mode_seeking * mode_seeking.loss(
                drawn.image, second.image, z, other
            )
        if loss.damsm:
            fixed = jax.lax.stop_gradient((params["match"], text))
            matched, _ = self.matching(fixed[0], drawn.image, fixed[1], batch)
            parts["damsm"] = loss.damsm * matched
        return sum(parts.values()), (changed, parts)

    # ---- parts -----------------------------------------------------------------------------------

    def read(self, params, batch, rng, train: bool | None = None) -> Text:
        """The batch's texts; already features where the data come with them.

        Args: train: whether the encoder drops out; None: if the GAN's phases train it.
        """
        if train is None:
            train = self.config.model.text.trained_by in ("g", "d", "both")
        if "sentence" in batch:
            return Text(words=batch["words"], mask=batch["mask"], sentence=batch["sentence"])
        return self.encoder.apply(
            {"params": params["text"]}, batch["tokens"], batch["mask"], train=train,
            rngs={"dropout": rng},
        )  # fmt: skip

    def condition(self, params, text: Text) -> jax.Array:
        """What the discriminator sees of the text: (b, e)."""
        del params
        return text.sentence

    def noise(self, rng, batch, step) -> jax.Array:
        """z (b, *noise): the same in the phases of one step, so that they share G's forward pass.

        With micro-batches each phase draws its own.
        """
        train = self.config.train
        if train.accumulate == 1:
            rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(train.seed), step), 0x7A)
        return jax.random.normal(rng, (batch["image"].shape[0], *self.generator.noise))

    def draw(self, params, mutable, text, z):
        """(Drawn, mutable after it)."""
        state = mutable.get("g", {})
        drawn, changed = self.generator.apply(
            {"params": params["g"], **state}, z, text, train=True, mutable=list(state)
        )
        return drawn, {**mutable, "g": changed} if changed else mutable

    def matching(self, params, images, text: Text, batch):
        """(DAMSM loss, metrics) of pictures and the batch's texts."""
        loss = self.loss
        assert self.matcher is not None  # the phases that come here have made it
        regions: Any
        whole: Any
        regions, whole = self.matcher.apply({"params": params}, images)
        return matching.damsm_loss(
            regions if loss.damsm_words else None, whole, text.words, text.mask, text.sentence,
            batch["meaning"], tuple(loss.damsm_gamma),
        )  # fmt: skip

    def judge(self, params, mutable, images, sentences, rng):
        """(one Judgement for each of `sentences`, mutable after it)."""
        return self._judge_with(self.discriminator, params, mutable, images, sentences, rng)

    def _judge_with(self, module, params, mutable, images, sentences, rng):
        state = dict(mutable.get("d", {}))
        own, vectors = params["d"], state.pop(NORMS, None)
        if vectors is not None:
            own, vectors = spectral_norm.normalize_tree(own, vectors)
        found, changed = module.apply(
            {"params": own, **state}, images, sentences, train=True,
            mutable=list(state), rngs={"dropout": rng},
        )  # fmt: skip
        if vectors is not None:
            changed = {**changed, NORMS: vectors}
        return found, {**mutable, "d": changed} if changed else mutable

    def augment(self, rng, images):
        """DiffAugment (Zhao et al. 2020) by the policy of the config."""
        return diff_augment.apply(rng, images, self.augmentations)

    def penalty(self, params, mutable, real, sentence, rng):
        """MA-GP and R1 as the config weighs them, on real pairs: (value, metrics)."""
        loss, module = self.loss, self.discriminator
        if loss.penalty_dtype:
            module = module.clone(dtype=jnp.dtype(loss.penalty_dtype))

        def logits(x, s):
            return self._judge_with(module, params, mutable, x, (s,), rng)[0][0].pair

        value, metrics = jnp.zeros(()), {}
        if loss.magp:
            squares = input_gradient_norms(logits, real, sentence)
            part = matching_aware_penalty(squares, loss.magp_power)
            value += loss.magp * part
            norms = jnp.sqrt(jax.lax.stop_gradient(squares))
            quantiles = jnp.quantile(norms, jnp.array([0.1, 0.5, 0.9]))
            metrics["magp"] = loss.magp * part
            metrics |= {f"input_norm/p{p}": q for p, q in zip((10, 50, 90), quantiles, strict=True)}
        if loss.r1:
            part = adversarial.r1_penalty(lambda x: logits(x, sentence), real, loss.r1)
            value += part
            metrics["r1"] = part
        return value, metrics

    def _interpolated(self, params, mutable, text: Text, rng) -> jax.Array:
        """GAN-INT: G's loss on texts halfway between two captions (Reed et al. 2016, eq. 5)."""
        z_rng, augment_rng, rng = jax.random.split(rng, 3)
        half = text.sentence.shape[0] // 2
        between = jax.tree.map(
            lambda x: x[:half] if x.dtype == bool else 0.5 * (x[:half] + x[half : 2 * half]), text
        )
        z = jax.random.normal(z_rng, (half, *self.generator.noise))
        drawn, _ = self.draw(params, mutable, between, z)
        sentence = jax.lax.stop_gradient(self.condition(params, between))
        seen = self.augment(augment_rng, drawn.image)
        (made,), _ = self.judge(params, mutable, seen, (sentence,), rng)
        return fool_loss(self.loss, made)
