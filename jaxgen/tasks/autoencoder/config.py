"""Config defaults that autoencoders share. Values only."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section
from jaxgen.keys import MOST, WIDEST, Key, Table, weight, whole

# Of the encoder's settings, where these differ from a count's.
LIMITS: dict[str, dict[str, Any]] = {
    "attention": {"each": Key(0, least=0, most=30)},
    "epsilon": {"least": None, "above": 0, "most": 1},
    "dropout": {"most": None, "below": 1},
}
LOSS: Table = {
    "pixel": weight(1.0, "weight of the pixels' distance"),
    "pixel_kind": Key(
        "l1",
        "the distance; bce: of a segmentation's logits to its classes",
        choices=("l1", "mse", "bce"),
    ),
    "perceptual": weight(1.0, "weight of LPIPS, or of what stands for it; 0: none"),
    "lpips": Key(
        (),
        "files of LPIPS's weights: trunk and heads, or one with both; (): in its place the "
        "distance of a random network's features",
        each=Key(""),
    ),
    "random_layers": Key(
        (("conv1_2", 1.0), ("conv2_2", 1.0)),
        "((layer, weight), ...) of that network",
        each=Key((), items=(Key("", "layer"), weight(1.0))),
    ),
    "random_width": Key(0.25, "of that network", above=0, most=8),
    "random_seed": whole(0, "of that network", 0),
    "bottleneck": weight(1.0, "weight of the codebook's loss, or of the divergence"),
    "adversarial": weight(0.8, "weight of the adversarial loss, times the adaptive one"),
    "adversarial_kind": Key("hinge", "D's loss", choices=("hinge", "vanilla")),
    "adaptive": Key(
        True, "weigh the adversarial loss so that its gradient at the last layer equals the rest's"
    ),
    "adaptive_most": weight(1e4, "largest adaptive weight"),
}
# What the sections of an autoencoder's config hold, beside the family's own keys of `model`.
KEYS: Table = {
    "data": {**section.KEYS, **section.BUCKETS},
    "model": {
        "channels": whole(3, "of the pictures; of segmentations the classes", most=WIDEST),
        "gan_start": whole(
            1000, "step from which D counts; before it pictures alone; -1: never", -1
        ),
        "d_warmup": whole(200, "steps that D is trained before it counts", 0, most=MOST),
        "ema": Key(0.0, "decay of G's average; 0: none", least=0, below=1),
        "loss": LOSS,
    },
    "eval": {
        "images": whole(200, "validation pictures; 0: all", 0),
        "pictures": whole(8, "of them in the sample grid"),
        "batch": whole(8, "pictures at a time"),
    },
}


def autoencoder_config(
    family: str, autoencoder: dict[str, Any], loss: dict[str, Any], **model: Any
) -> ConfigDict:
    """The embedded default of autoencoders: a small one on captioned shapes, 32 px.

    Args:
      autoencoder, loss: settings of `model.autoencoder` and `model.loss` beside the common ones.
      model: the family's own sections and settings of `config.model`.
    """
    config = configs.base(family)
    config.data = section.defaults()
    config.model = {
        **keys.defaults(KEYS["model"]).to_dict(),
        "autoencoder": {
            "features": 32,
            "widths": (1, 2, 2),  # of the levels: 32, 16 and 8 pixels on a side
            "blocks": 1,
            "attention": (),  # levels with attention, beside the middle
            "middle_attention": True,
            "groups": 8,
            **autoencoder,
        },
        "discriminator": {"features": 24, "layers": 2},
        "loss": keys.changed(
            LOSS,
            "model.loss",
            {"pixel_kind": "mse", "pixel": 5.0, "perceptual": 0.1, "adversarial": 0.1, **loss},
        ).to_dict(),
        "gan_start": 1500,
        "d_warmup": 100,
        **model,
    }
    # One for the steps without the discriminator, `g` for those with it.
    config.optimizer = {
        phase: configs.optimizer(1e-3, b1=0.9, b2=0.99, schedule="cosine", final=0.1, warmup=50)
        for phase in ("pretrain", "d", "g")
    }
    config.optimizer.pretrain.final = 0.3
    config.optimizer.d.update(b1=0.5, b2=0.9)
    config.train.update(
        steps=2000, batch_size=16, log_every=100, eval_every=500, checkpoint_every=500
    )
    config.train.init_from = {"g": "", "d": ""}  # another run, exported folder or weights file
    config.eval = keys.defaults(KEYS["eval"])
    return config


def tiny(config: ConfigDict) -> None:
    """Seconds; what the tests run. The widths of what lies between are the family's."""
    config.data.update(size=16, count=64)
    config.model.autoencoder.update(features=4, widths=(1, 2), groups=2)
    config.model.discriminator.update(features=4, layers=1)
    config.model.loss.update(
        pixel_kind="l1", pixel=1.0, random_layers=(("conv1_2", 1.0),), random_width=0.0625
    )
    config.model.update(gan_start=2, d_warmup=1)
    autoencoder_rates(config, 1e-3, schedule="constant", warmup=0)
    configs.train_briefly(config, steps=4)
    config.eval.update(images=4, pictures=2, batch=4)


def autoencoder_rates(config: ConfigDict, lr: float, **changes: Any) -> None:
    """The same learning rate, and other settings, of all phases' optimizers."""
    for phase in config.optimizer:
        config.optimizer[phase].update(lr=lr, **changes)


def without_gan(config: ConfigDict) -> None:
    """Reconstruction and the bottleneck alone, from the first step to the last."""
    config.model.update(gan_start=-1, d_warmup=0)
