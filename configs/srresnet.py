"""SRResNet alone (Ledig et al., CVPR 2017): super-resolution by pixel loss, no GAN.

    python -m jaxgen.main --config=configs/srresnet.py

is the first stage of `configs/srgan.py` on the photos that scikit-image carries.

Variants (`--config=configs/srresnet.py:NAME`):
  tiny       seconds; what the tests run.
  t291       the 291 pictures that VDSR was trained on (T91, and BSDS500's train split, which is
             BSDS200), below one folder: --config.data.path=FOLDER. Measure on Set5, Set14 and
             BSD100 (which is BSDS500's val split: never train on that). Published for these
             pictures at x4, Set5: VDSR 31.35 dB; SRCNN 30.48. 64 channels, 16 blocks, 200,000
             steps of 16 crops: for a GPU.
  t291_hour  the same within an hour on 2 CPU cores: 48 channels, 10 blocks, all of it computed at
             low resolution, 10,000 steps. Set5 31.46 dB.

The GAN stage that follows is `configs/srgan.py:t291` (or `:t291_hour`).
"""

from pathlib import Path

from jaxgen import config as configs


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.load(f"{Path(__file__).with_name('srgan.py')}:{variant}")
    config.model.pretrain_steps = -1
    config.model.loss.perceptual_weights = "none"
    with config.unlocked():
        del config.optimizer["g"], config.optimizer["d"]
        del config.train.init_from["d"]
    VARIANTS[variant](config)
    return config


def _default(config):
    config.train.update(steps=2500, eval_every=0)


def _tiny(config):
    config.train.steps = 4


def _t291(config):
    config.optimizer.pretrain.update(lr=5e-4, warmup=500)
    config.train.update(steps=200_000, eval_every=5000, checkpoint_every=5000)


def _t291_hour(config):
    config.model.ema = 0.999
    config.optimizer.pretrain.update(lr=1e-3, warmup=500)
    config.train.update(steps=10_000, eval_every=1000, checkpoint_every=1000)


VARIANTS = {"": _default, "tiny": _tiny, "t291": _t291, "t291_hour": _t291_hour}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "4 minutes of 2 CPU cores",
    "tiny": "seconds",
    "t291": "a GPU",
    "t291_hour": "25 minutes of 2 CPU cores",
}
