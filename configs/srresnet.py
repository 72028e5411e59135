"""SRResNet alone (Ledig et al., CVPR 2017): super-resolution by pixel loss, no GAN.

    python -m jaxgen.main --config=configs/srresnet.py

is the first stage of `configs/srgan.py` on the photos that scikit-image carries.

Variants (`--config=configs/srresnet.py:NAME`):
  tiny       seconds; what the tests run.
  t291       the 291 pictures that VDSR was trained on (T91 and BSDS500's train split, which is
             BSDS200), together in one folder: --config.data.path=FOLDER. Measure on Set5, Set14
             and BSD100 (which is BSDS500's val split: never train on that). The published marks
             for these pictures at x4: SRCNN 30.48 dB on Set5, VDSR 31.35.
             64 channels, 16 blocks, 200,000 steps: for a GPU.
  t291_hour  the same in about an hour on 2 CPU cores: 48 channels, 10 blocks, 20,000 steps.
"""

from pathlib import Path

from jaxgen import config as configs


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    base = ":tiny" if variant == "tiny" else ""
    config = configs.load(f"{Path(__file__).with_name('srgan.py')}{base}")
    config.model.pretrain_steps = -1
    config.model.loss.perceptual_weights = "none"
    with config.unlocked():
        del config.optimizer["g"], config.optimizer["d"]
    config.train.steps = 4 if variant == "tiny" else config.train.steps
    VARIANTS[variant](config)
    return config


def _as_it_is(config):
    pass


def _t291(config):
    # 72: the largest crop that fits into T91's smallest picture (78 pixels).
    config.data.update(source="folder", hr_size=72, rescale=(0.6, 1.0), holdout=8)
    config.model.generator.update(
        features=64, blocks=16, edge_kernel=3, norm=False, skip=True, tail="stages"
    )
    config.model.ema = 0.999
    config.optimizer.pretrain.update(lr=5e-4, warmup=500, final=0.01, clip_norm=1.0)
    config.train.update(
        steps=200_000, batch_size=16, log_every=100, eval_every=5000, checkpoint_every=5000
    )


def _t291_hour(config):
    _t291(config)
    config.model.generator.update(features=48, blocks=10, tail="direct")
    config.optimizer.pretrain.update(lr=1e-3)
    config.train.update(steps=20_000, eval_every=1000, checkpoint_every=1000)


VARIANTS = {"": _as_it_is, "tiny": _as_it_is, "t291": _t291, "t291_hour": _t291_hour}
