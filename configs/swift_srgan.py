"""Swift-SRGAN: SRGAN with depthwise separable convolutions (Krishnan and Krishnan 2021).

    python -m jaxgen.main --config=configs/swift_srgan.py

trains a small separable network for pixels, then as a GAN, x4, on the photos that scikit-image
carries: no download, within 10 minutes on 2 CPU cores. Held-out photos: astronaut, chelsea.

Variants (`--config=configs/swift_srgan.py:NAME`):
  tiny     seconds; what the tests run.
  paper    the original's networks (201,209 and 19,413,279 parameters) and weights of losses on a
           folder of photos (set data.path): 96x96 crops, AdamW 1e-3, GAN from the first step.
           Needs VGG19: --config.model.loss.perceptual_weights=file:vgg19.pth.
"""

from jaxgen import config as configs
from jaxgen.tasks.sr.config import SRGAN_PERCEPTUAL, sr_config


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = sr_config(
        "swift_srgan",
        generator={
            "features": 32,
            "blocks": 8,
            "edge_kernel": 5,
            "norm": False,
            "skip": True,
        },
        discriminator={"features": 24, "hidden": 128, "pool": 2},
    )
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    config.data.update(hr_size=32, scale=2)
    # As published, with BatchNorm and tanh.
    config.model.generator.update(features=8, blocks=1, edge_kernel=3, norm=True, skip=False)
    config.model.discriminator.update(features=4, hidden=8)
    config.model.pretrain_steps = 4
    config.model.loss.update(perceptual_width=0.125, perceptual_layers=(("conv1_2", 1.0),))
    config.model.loss.total_variation = 1e-3
    config.optimizer.pretrain.warmup = 0
    configs.train_briefly(config, steps=8)
    config.eval.update(images=1, crop=64)


def _paper(config):
    config.data.update(source="folder", hr_size=96, workers=8, rescale=(1.0, 1.0))
    config.model.generator.update(features=64, blocks=16, edge_kernel=9, norm=True, skip=False)
    config.model.discriminator.update(features=64, hidden=1024, pool=6)
    config.model.pretrain_steps = 0
    # Our [-1, 1] doubles the differences of the original's [0, 1], and their squares fourfold.
    config.model.loss.update(
        SRGAN_PERCEPTUAL,
        pixel=0.25,
        pixel_kind="mse",
        perceptual=6e-3,
        adversarial=1e-3,
        total_variation=2e-8,
        label_smoothing=0.0,
    )
    for phase in ("g", "d"):
        config.optimizer[phase] = configs.optimizer(1e-3, name="adamw", weight_decay=0.01)
    config.model.ema = 0.999
    config.train.update(
        steps=400_000, batch_size=16, eval_every=5000, checkpoint_every=5000, keep_every=100_000
    )
    config.eval.images = 20


VARIANTS = {"": _default, "tiny": _tiny, "paper": _paper}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "11 minutes of 2 CPU cores",
    "tiny": "seconds",
    "paper": "a GPU",
}
