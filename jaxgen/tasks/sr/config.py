"""Config defaults that super-resolution families share. Values only."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.sr import section
from jaxgen.keys import Key, Table, weight, whole

LOSS: Table = {
    "pixel": weight(1.0, "weight in the GAN stage's sum"),
    "pixel_kind": Key(
        "l1", "pre-training uses it alone", choices=("mse", "l1", "charbonnier")
    ),
    "perceptual": weight(1.0, "weight of the features' distance"),
    "perceptual_net": Key(
        "vgg19", "whose features", choices=("vgg19", "inception_resnet_v2")
    ),
    "perceptual_weights": Key("random", "file:PATH, random or none"),
    "perceptual_width": Key(0.5, "of the random network", above=0, most=8),
    "perceptual_seed": whole(0, "of the random network", 0),
    "perceptual_layers": Key(
        (("conv2_2", 1.0),),
        "((layer, weight), ...)",
        each=Key((), items=(Key("", "layer"), weight(1.0))),
    ),
    "perceptual_before_activation": Key(True, "takes a layer's output before its ReLU"),
    "perceptual_input": Key(
        "imagenet",
        "what the network sees; inception_resnet_v2: raw",
        choices=("imagenet", "caffe", "raw"),
    ),
    "perceptual_kind": Key("l1", "the distance of features", choices=("l1", "l2")),
    "perceptual_scale": weight(1.0, "factor on the features"),
    "total_variation": weight(0.0, "weight of the generated picture's total variation"),
    "adversarial": weight(5e-3, "weight of the adversarial loss"),
    "adversarial_kind": Key(
        "nonsaturating",
        "its form; relativistic as of ESRGAN",
        choices=("hinge", "nonsaturating", "minimax", "lsgan", "relativistic"),
    ),
    "label_smoothing": Key(0.1, "of D's targets", least=0, below=1),
    "label_smoothing_kind": Key(
        "one-sided",
        "uniform: real 1 - U(0, s), fake U(0, s)",
        choices=("one-sided", "uniform"),
    ),
    "d_steps_per_g_step": whole(1, "updates of D for each of G"),
    "instance_noise": weight(0.0, "standard deviation at the start, in [-1, 1] units"),
    "instance_noise_steps": whole(1, "run's step at which it has faded to zero"),
}  # fmt: skip
# What the sections of a super-resolution config hold, beside the family's own keys of `model`.
KEYS: Table = {
    "data": section.KEYS,
    "model": {
        "pretrain_steps": whole(
            2500, "steps for pixels alone, then the GAN; 0: GAN at once; -1: pixels only", -1
        ),
        "ema": Key(0.99, "decay of G's average; 0: none", least=0, below=1),
        "loss": LOSS,
    },
    "eval": {
        "images": whole(0, "validation pictures; 0: all", 0),
        "crop": whole(160, "side of the square that the sample grid shows"),
    },
}

# Settings of `model.loss` as published: the whole of VGG19 and its last features,
VGG19_PERCEPTUAL = {
    "perceptual_weights": "file:vgg19.pth",
    "perceptual_width": 1.0,
    "perceptual_layers": (("conv5_4", 1.0),),
}
# and SRGAN's loss of them (Ledig et al. 2017, eq. 5), where ESRGAN takes the defaults.
SRGAN_PERCEPTUAL = {
    **VGG19_PERCEPTUAL,
    "perceptual_before_activation": False,
    "perceptual_input": "caffe",
    "perceptual_kind": "l2",
}


def sr_loss(**changes: Any) -> dict[str, Any]:
    """The section `model.loss` of a super-resolution family, with its defaults.

    Raises:
      UserError: a setting that there is not.
    """
    return keys.changed(LOSS, "model.loss", changes).to_dict()


def sr_config(family: str, **model: Any) -> ConfigDict:
    """The embedded default that super-resolution families start from.

    x4 on scikit-image's photos: pixels for 2,500 steps, then the GAN for 500. A family's config
    gives its networks and what differs.

    Args:
      model: sections and settings of `config.model`, beside or in place of the common ones.
    """
    config = configs.base(family)
    config.data = section.defaults()
    # Fifteen photos are few: shrunk copies add detail, and a longer first stage learns them by
    # heart (docs/results.md).
    config.data.update(scale=4, hr_size=64, rescale=(0.4, 1.0))
    config.model = {**keys.defaults(KEYS["model"]).to_dict(), **model}
    config.optimizer = {
        "pretrain": configs.optimizer(
            2e-3, schedule="cosine", warmup=100, final=0.01, clip_norm=1.0
        ),
        "g": configs.optimizer(2e-4),
        "d": configs.optimizer(2e-4),
    }
    config.train.update(
        steps=3000, batch_size=8, log_every=100, eval_every=1250, checkpoint_every=500
    )
    config.train.init_from = {"g": "", "d": ""}  # another run, exported folder or weights file
    config.eval = keys.defaults(KEYS["eval"])
    return config
