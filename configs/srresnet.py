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
  photo      photos as they come from phones and the web, saved as JPEG: half of the examples are
             made smaller well and saved once or not at all, half go through mild blur, noise and
             JPEG twice. 6,000 steps on a folder of photos: --config.data.path=FOLDER; x4, or
             --config.data.scale=2 --config.data.hr_size=64. The bundled srresnet_photo_x4 and
             srresnet_photo_x2 were trained by it.

The GAN stage that follows is `configs/srgan.py:t291` (or `:t291_hour`).
"""

from pathlib import Path

from jaxgen import config as configs


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    base = "" if variant == "photo" else variant  # no GAN stage of SRGAN's follows it
    config = configs.load(f"{Path(__file__).with_name('srgan.py')}:{base}")
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


def _photo(config):
    config.data.update(source="folder", hr_size=96, degradation="blind", rescale=(0.5, 1.0))
    config.data.recolour = 0.8  # else two dozen photos teach which colours things have
    config.data.blind.update(usm=False, plain=0.6, plain_noise=0.2, plain_jpeg=0.75, final_sinc=0.0)
    # Mild: what a phone's picture and one upload do, not what a bad scan goes through.
    config.data.blind.first.update(
        blur=0.5, sinc=0.0, sigma=(0.2, 1.2), resize=(0.0, 0.3, 0.7), factor=(0.5, 1.0),
        noise=(1.0, 6.0), poisson=(0.05, 0.5), jpeg=(60, 95),
    )  # fmt: skip
    config.data.blind.second.update(
        blur=0.2, sinc=0.0, sigma=(0.2, 0.8), resize=(0.0, 0.0, 1.0), noise=(1.0, 6.0),
        poisson=(0.05, 0.5), jpeg=(30, 95),
    )  # fmt: skip
    config.model.ema = 0.999
    config.model.generator.update(features=48, blocks=8, tail="direct")
    config.optimizer.pretrain.update(lr=1e-3, warmup=200)
    config.train.update(steps=6000, eval_every=1000, checkpoint_every=1000)


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "t291": _t291,
    "t291_hour": _t291_hour,
    "photo": _photo,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "4 minutes of 2 CPU cores",
    "tiny": "seconds",
    "t291": "a GPU",
    "t291_hour": "25 minutes of 2 CPU cores",
    "photo": "15 minutes of 2 CPU cores",
}
