"""RDN: the residual dense network for super-resolution (Zhang et al., CVPR 2018).

    python -m jaxgen.main --config=configs/rdn.py

trains a small RDN by pixel loss, x4, on the photos that scikit-image carries: no download, within
10 minutes on 2 CPU cores. Held-out photos: astronaut, chelsea.

Variants (`--config=configs/rdn.py:NAME`):
  tiny    seconds; what the tests run.
  paper   16 blocks of 8 layers, 22,271,107 parameters at x4, on a folder of photos (set data.path)
          or DIV2K: 32x32 input crops, batch 16, L1, Adam 1e-4 halved every 200,000 of 1e6 steps.
          Published for x4: Set5 32.47, Set14 28.81 dB.
  c3d10   10 blocks of 3 layers, idealo's smaller size (their up-stage is another), 2,792,067.
  c6d20   20 blocks of 6 layers, idealo's larger size, 16,520,067.
"""

from jaxgen import config as configs
from jaxgen.tasks.sr.config import sr_config, sr_loss


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = sr_config(
        "rdn",
        generator={
            "features": 32,  # the paper's G_0
            "blocks": 4,  # D
            "layers": 3,  # C
            "growth": 32,  # G
            "up_features": 32,
            "value_range": 1.0,
            "skip": True,
            "remat": False,  # True: less memory, a third more work
        },
        pretrain_steps=-1,  # pixel loss to the end: there is no GAN stage
        loss=sr_loss(perceptual_weights="none"),
    )
    with config.unlocked():
        del config.optimizer["g"], config.optimizer["d"]
        del config.train.init_from["d"]
    config.train.steps = 2500
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    config.data.hr_size = 32
    config.model.generator.update(
        features=8, blocks=2, layers=2, growth=4, up_features=6, skip=False, remat=True
    )
    config.optimizer.pretrain.warmup = 0
    configs.train_briefly(config, steps=4)
    config.eval.update(images=1, crop=64)


def _paper(config):
    config.data.update(source="folder", hr_size=128, workers=8, rescale=(1.0, 1.0))
    config.model.generator.update(
        features=64, blocks=16, layers=8, growth=64, up_features=64, skip=False
    )
    config.model.ema = 0.999
    config.optimizer.pretrain = configs.optimizer(
        1e-4, schedule="multistep", milestones=(200_000, 400_000, 600_000, 800_000), gamma=0.5
    )
    config.train.update(
        steps=1_000_000,
        batch_size=16,
        eval_every=5000,
        checkpoint_every=5000,
        keep_every=100_000,
    )
    config.eval.images = 20


def _c3d10(config):
    _paper(config)
    config.model.generator.update(blocks=10, layers=3)


def _c6d20(config):
    _paper(config)
    config.model.generator.update(blocks=20, layers=6)


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "paper": _paper,
    "c3d10": _c3d10,
    "c6d20": _c6d20,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "5 minutes of 2 CPU cores",
    "tiny": "seconds",
    "paper": "a GPU",
    "c3d10": "a GPU",
    "c6d20": "a GPU",
}
