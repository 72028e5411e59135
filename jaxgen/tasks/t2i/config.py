"""Config defaults that text-to-image GANs share. Values only."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.data.captioned import section
from jaxgen.errors import UserError

_T2I_LOSS = {
    "kind": "hinge",  # hinge | nonsaturating | minimax | lsgan
    # Weights of D's terms: real pairs, generated pictures, real ones with another's sentence;
    "real": 1.0,
    "fake": 0.5,
    "mismatch": 0.5,  # 0: D need not read the text
    "mismatch_hardest": False,  # of the others' sentences the most alike, not the next
    "image_real": 0.0,  # of the head without text, where there is one (StackGAN)
    "image_fake": 0.0,
    "pixels": 0.5,  # share of the per-pixel logits, where there are such (U-Net)
    "label_smoothing": 0.0,  # one-sided
    "magp": 0.0,  # weight of the matching-aware gradient penalty
    "magp_power": 6.0,
    "r1": 0.0,  # gamma of R1
    "penalty_every": 1,  # lazily: every k-th step, k times as strong (not scaled where apart)
    "penalty_apart": False,  # an update of its own (optimizer.penalty); DF-GAN's first version
    "penalty_dtype": "float32",  # of D within the penalties; "": train.dtype
    "spectral_norm": False,  # of all kernels of D; the U-Net has it always
    "augment": "",  # DiffAugment: translation, cutout, color, by commas
    "cutmix": 0.0,  # weight of CutMix, for a U-Net discriminator
    "cutmix_probability": 0.5,  # reached after cutmix_warmup steps
    "cutmix_warmup": 1,
    "mode_seeking": 0.0,  # weight of MSGAN's loss
    "interpolate": 0.0,  # weight of GAN-INT's loss
    "kl": 2.0,  # weight of the conditioning augmentation's divergence, where there is one
    "damsm": 0.0,  # weight of the matching loss in G's
    "damsm_gamma": (4.0, 5.0, 10.0),
    "damsm_words": True,  # False: whole pictures and sentences alone
    "d_steps_per_g_step": 1,
}


def t2i_loss(**changes: Any) -> dict[str, Any]:
    """The section `model.loss` of a text-to-image GAN, with its defaults.

    Raises:
      UserError: a setting that there is not.
    """
    unknown = sorted(set(changes) - set(_T2I_LOSS))
    if unknown:
        raise UserError(f"model.loss has no setting {unknown}; it has {list(_T2I_LOSS)}")
    return {**_T2I_LOSS, **changes}


def t2i_config(family: str, **model: Any) -> ConfigDict:
    """The embedded default that text-to-image families start from: captioned shapes, 32 px.

    Args:
      model: sections and settings of `config.model`, beside or in place of the common ones:
        `generator` and `discriminator` are the family's own.
    """
    config = configs.base(family)
    config.data = section.defaults()
    config.model = {
        "text": {
            "kind": "bow",  # lstm | transformer | bow: enough for one object a scene
            "width": 64,
            "embedding": 64,  # lstm: size of the token vectors
            "bidirectional": True,  # lstm
            "start": True,  # lstm: whether it reads <start>; False for published weights
            "layers": 2,  # transformer
            "heads": 4,  # transformer
            "dropout": 0.0,
            "trained_by": "damsm",  # g | d | both | damsm (before the GAN) | none (as it is)
        },
        "match": {"features": 16, "width": 64},  # the pictures' side of the matching loss
        "damsm_steps": 300,  # steps of matching before the GAN
        "gan_stop": 0,  # step at which the first GAN's phases end; 0: never
        "ema": 0.99,
        "loss": t2i_loss(),
        **model,
    }
    config.parts = {"text": ""}  # a trained text encoder, to be used as it is
    config.optimizer = {
        "damsm": configs.optimizer(2e-3, clip_norm=0.25),
        "d": configs.optimizer(4e-4, b1=0.0, b2=0.9),
        "g": configs.optimizer(1e-4, b1=0.0, b2=0.9),
        "penalty": configs.optimizer(4e-4, b1=0.0, b2=0.9),
    }
    config.train.update(
        steps=5000, batch_size=32, log_every=100, eval_every=1000, checkpoint_every=1000
    )
    # Another run, exported folder or weights file.
    config.train.init_from = {"text": "", "match": "", "g": "", "d": ""}
    config.eval = {
        "captions": 200,  # held-in, and as many held-out
        "pictures": 8,  # captions in the sample grid
        "noises": 4,  # pictures per caption, for diversity and the grid
        "truncation": 1.0,  # z is scaled by it, and cut off at twice it where below 1
    }
    return config


def t2i_rates(config: ConfigDict, g: float, d: float, **schedule: Any) -> None:
    """Learning rates of the generator's and the discriminator's phases, and their schedule."""
    for phase, lr in (("g", g), ("d", d), ("penalty", d)):
        config.optimizer[phase].update(lr=lr, **schedule)


def t2i_tiny(config: ConfigDict) -> None:
    """What all `:tiny` variants share: seconds, and every kind of layer in its smallest size."""
    config.data.update(size=16, count=64)
    config.model.text.update(kind="bow", width=8, trained_by="d")
    config.model.damsm_steps = 0
    config.train.update(steps=4, batch_size=8, log_every=2, eval_every=0, checkpoint_every=2)
    config.train.tensorboard = False
    config.eval.update(captions=4, pictures=2, noises=2)


def t2i_lstm(config: ConfigDict, steps: int) -> None:
    """A text encoder of AttnGAN's size, which reads the words' order, trained before the GAN.

    Args: steps: of training it by the matching loss, words and sentences.
    """
    config.model.text.update(kind="lstm", width=256, embedding=300, dropout=0.5, trained_by="damsm")
    config.model.match.update(features=64, width=256)
    config.model.loss.damsm_words = True
    config.model.damsm_steps = steps
