"""Config defaults that text-to-image GANs share. Values only."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section
from jaxgen.keys import WIDEST, Key, Table, share, weight, whole

LOSS: Table = {
    "kind": Key(
        "hinge", "adversarial loss", choices=("hinge", "nonsaturating", "minimax", "lsgan")
    ),
    "real": weight(1.0, "weight in D's loss of real pairs"),
    "fake": weight(0.5, "of generated pictures"),
    "mismatch": weight(0.5, "of real ones with another's sentence; 0: D need not read the text"),
    "mismatch_hardest": Key(False, "of the others' sentences the most alike, not the next"),
    "image_real": weight(0.0, "of the head without text, where there is one (StackGAN)"),
    "image_fake": weight(0.0, "of the same head for generated pictures"),
    "pixels": share(0.5, "share of the per-pixel logits, where there are such (U-Net)"),
    "label_smoothing": Key(0.0, "one-sided", least=0, below=1),
    "magp": weight(0.0, "weight of the matching-aware gradient penalty"),
    "magp_power": Key(6.0, "of the gradient's norm in it", above=0, most=100),
    "r1": weight(0.0, "gamma of R1"),
    "penalty_every": whole(
        1, "lazily: every k-th step, k times as strong (not scaled where apart)"
    ),
    "penalty_apart": Key(
        False, "an update of its own (`optimizer.penalty`); DF-GAN's first version"
    ),
    "penalty_dtype": Key(
        "float32",
        'of D within the penalties; "": train.dtype',
        choices=("float32", "bfloat16", ""),
    ),
    "spectral_norm": Key(False, "of all kernels of D; the U-Net has it always"),
    "augment": Key("", "DiffAugment: translation, cutout, color, by commas"),
    "cutmix": weight(0.0, "weight of CutMix, for a U-Net discriminator"),
    "cutmix_probability": share(0.5, "reached after cutmix_warmup steps"),
    "cutmix_warmup": whole(1, "steps until that", 0),
    "mode_seeking": weight(0.0, "weight of MSGAN's loss"),
    "interpolate": weight(0.0, "weight of GAN-INT's loss"),
    "kl": weight(
        2.0, "weight of the conditioning augmentation's divergence, where there is one"
    ),
    "damsm": weight(0.0, "weight of the matching loss in G's"),
    "damsm_gamma": Key(
        (4.0, 5.0, 10.0), "the three of AttnGAN", each=Key(1.0, above=0), length=3
    ),
    "damsm_words": Key(True, "False: whole pictures and sentences alone"),
    "d_steps_per_g_step": whole(1, "updates of D for each of G"),
}  # fmt: skip
READER: Table = {  # of a net that reads captions, whatever its kind
    "width": whole(64, "of the features", most=WIDEST),
    "embedding": whole(64, "lstm: size of the token vectors", most=WIDEST),
    "bidirectional": Key(True, "lstm"),
    "start": Key(True, "lstm: whether it reads <start>; False for published weights"),
    "layers": whole(2, "transformer", most=1000),
    "heads": whole(4, "transformer", most=WIDEST),
    "dropout": Key(0.0, "in training", least=0, below=1),
}
READERS = ("lstm", "transformer", "bow")
TEXT: Table = {
    "kind": Key("bow", "bow is enough for one object a scene", choices=READERS),
    **READER,
    "trained_by": Key(
        "damsm",
        "whose loss trains it: damsm before the GAN; none: as it is",
        choices=("g", "d", "both", "damsm", "none"),
    ),
}
# What the sections of a text-to-image config hold, beside the family's own keys of `model`.
KEYS: Table = {
    "data": section.KEYS,
    "model": {
        "text": TEXT,
        "match": {  # the pictures' side of the matching loss
            "features": whole(16, "channels of its first layer", most=WIDEST),
            "width": whole(64, "of its features; the text features' width", most=WIDEST),
        },
        "damsm_steps": whole(300, "steps of matching before the GAN", 0),
        "gan_stop": whole(0, "step at which the first GAN's phases end; 0: never", 0),
        "ema": Key(0.99, "decay of G's average; 0: none", least=0, below=1),
        "loss": LOSS,
    },
    "eval": {
        "captions": whole(200, "held-in, and as many held-out"),
        "pictures": whole(8, "captions in the sample grid"),
        "noises": whole(4, "pictures per caption, for diversity and the grid", 2),
        "truncation": Key(
            1.0,
            "z is scaled by it, and cut off at twice it where below 1",
            above=0,
            most=1,
        ),
    },
}


def t2i_loss(**changes: Any) -> dict[str, Any]:
    """The section `model.loss` of a text-to-image GAN, with its defaults.

    Raises:
      UserError: a setting that there is not.
    """
    return keys.changed(LOSS, "model.loss", changes).to_dict()


def t2i_config(family: str, **model: Any) -> ConfigDict:
    """The embedded default that text-to-image families start from: captioned shapes, 32 px.

    Args:
      model: sections and settings of `config.model`, beside or in place of the common ones:
        `generator` and `discriminator` are the family's own.
    """
    config = configs.base(family)
    config.data = section.defaults()
    config.model = {**keys.defaults(KEYS["model"]).to_dict(), **model}
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
    config.eval = keys.defaults(KEYS["eval"])
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
    configs.train_briefly(config, steps=4)
    config.eval.update(captions=4, pictures=2, noises=2)


def t2i_lstm(config: ConfigDict, steps: int) -> None:
    """A text encoder of AttnGAN's size, which reads the words' order, trained before the GAN.

    Args: steps: of training it by the matching loss, words and sentences.
    """
    config.model.text.update(kind="lstm", width=256, embedding=300, dropout=0.5, trained_by="damsm")
    config.model.match.update(features=64, width=256)
    config.model.loss.damsm_words = True
    config.model.damsm_steps = steps
