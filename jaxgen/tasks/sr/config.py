"""Config defaults that super-resolution families share. Values only."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.data.sr import section
from jaxgen.errors import UserError

_SR_LOSS = {
    "pixel": 1.0,  # weights of the GAN stage's sum
    "pixel_kind": "l1",  # mse | l1 | charbonnier; pre-training uses it alone
    "perceptual": 1.0,
    "perceptual_net": "vgg19",  # vgg19 | inception_resnet_v2
    "perceptual_weights": "random",  # file:PATH | random | none
    "perceptual_width": 0.5,  # of the random network
    "perceptual_seed": 0,
    "perceptual_layers": (("conv2_2", 1.0),),  # (layer, weight), ...
    "perceptual_before_activation": True,
    "perceptual_input": "imagenet",  # imagenet | caffe | raw; inception_resnet_v2: raw
    "perceptual_kind": "l1",
    "perceptual_scale": 1.0,  # factor on the features
    "total_variation": 0.0,  # of the generated picture
    "adversarial": 5e-3,
    "adversarial_kind": "nonsaturating",
    "label_smoothing": 0.1,
    "label_smoothing_kind": "one-sided",  # or uniform: real 1 - U(0, s), fake U(0, s)
    "d_steps_per_g_step": 1,
    "instance_noise": 0.0,  # standard deviation at the start, in [-1, 1] units
    "instance_noise_steps": 1,  # run's step at which it has faded to zero
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
    unknown = sorted(set(changes) - set(_SR_LOSS))
    if unknown:
        raise UserError(f"model.loss has no setting {unknown}; it has {list(_SR_LOSS)}")
    return {**_SR_LOSS, **changes}


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
    config.model = {
        "pretrain_steps": 2500,  # then the GAN; 0: GAN at once; -1: pixels only
        "ema": 0.99,
        "loss": sr_loss(),
        **model,
    }
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
    config.eval = {"images": 0, "crop": 160}  # images: 0 is all
    return config
