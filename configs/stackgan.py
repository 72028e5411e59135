"""StackGAN: a sketch from text, then a second GAN that refines it (Zhang et al., ICCV 2017).

    python -m jaxgen.main --config=configs/stackgan.py

trains both stages in one run on captioned shapes: stage I at 16 px until step `model.gan_stop`,
then stage II to 32 px with stage I fixed; within 10 minutes on 2 CPU cores. Then

    jaxgen generate "a large red circle" --model runs/stackgan -n 8 --seed 1

Stage II alone, on top of a run of `:stage1` (whose pictures are data.size / model.factor large):

    python -m jaxgen.main --config=configs/stackgan.py --config.model.stages="(2,)" \\
      --config.train.init_from.g=runs/stage1 --config.train.init_from.text=runs/stage1

Variants (`--config=configs/stackgan.py:NAME`):
  tiny    seconds; what the tests run.
  stage1  stage I alone, 16 px.
  unet    the default with U-Net discriminators and CutMix.
  emoji   emoji with their names, 32 to 64 px.
  folder  pictures of your own with their captions: --config.data.path=FOLDER, 64 to 256 px.
  cub     the paper's networks (14,247,811 and 4,029,825 parameters, then 26,290,083 and 69,575,041
          with 1,024-wide sentences) and schedule on CUB-200-2011, 64 to 256 px; data.captions is
          the folder of the birds' texts.
  coco    StackGAN-PyTorch's networks (20,020,832 and 12,407,425, then 37,130,480 and 159,889,538)
          and schedule on COCO; data.path and data.captions are the folders of its pictures and
          of its annotations.
"""

from jaxgen import config as configs
from jaxgen.tasks.t2i.config import t2i_config, t2i_loss, t2i_lstm, t2i_tiny


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = t2i_config(
        "stackgan",
        stages=(1, 2),  # or (1,), or (2,) with train.init_from.g and .text
        factor=2,  # of stage II's enlargement, 4 in the paper; stage I draws data.size / factor
        form="tf",  # tf, the paper's | pytorch, StackGAN-PyTorch's
        generator={"features": 32, "z": 64, "condition": 64},
        discriminator={"form": "own", "features": 32},  # form: own | unet
        loss=t2i_loss(kind="nonsaturating", real=1.0, fake=0.5, mismatch=0.5, kl=0.05),
        stage2={
            "generator": {"features": 16, "blocks": 2},
            "discriminator": {"form": "own", "features": 16},
            # Where stage II differs from model.loss.
            "loss": {
                "real": 1.0,
                "fake": 0.5,
                "mismatch": 0.5,
                "image_real": 0.0,  # form pytorch alone
                "image_fake": 0.0,
            },
        },
    )
    config.model.damsm_steps = 1500
    config.model.gan_stop = 4000  # stage I's last step; stage II goes on from there
    config.model.ema = 0.999
    config.train.update(steps=6500, eval_every=500, checkpoint_every=500)
    # Three times the paper's rate, and (above) a fortieth of its weight of the conditioning
    # augmentation's divergence: sentences of 64 numbers drown in noise of its strength.
    for phase in ("g", "d", "penalty", "g2", "d2"):
        config.optimizer[phase] = configs.optimizer(6e-4, b1=0.5)
    config.train.init_from.update({"g2": "", "d2": ""})
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    t2i_tiny(config)
    config.model.update(factor=2, form="pytorch")
    config.model.generator.update(features=4, z=8, condition=8)
    config.model.discriminator.features = 4
    config.model.stage2.generator.update(features=4, blocks=1)
    config.model.stage2.discriminator.features = 4
    config.model.stage2.loss.update(real=0.5, image_real=0.5, image_fake=0.5)
    config.model.gan_stop = 2


def _stage1(config):
    config.model.stages = (1,)
    config.data.size = 16
    config.model.gan_stop = 0
    config.train.steps = 4000


def _unet(config):
    with config.unlocked():
        for section in (config.model, config.model.stage2):
            section.discriminator = {"form": "unet", "features": 8}
    config.model.loss.update(cutmix=1.0, cutmix_warmup=1000)


def _large(config):
    """The paper's networks, 64 to 256 px, and an encoder trained by the matching loss."""
    _published_losses(config)
    config.data.size = 256
    config.model.factor = 4
    t2i_lstm(config, 10_000)
    config.model.generator.update(features=128, z=100, condition=128)
    config.model.discriminator.features = 64
    config.model.stage2.generator.update(features=128, blocks=4)
    config.model.stage2.discriminator.features = 64
    config.train.update(
        batch_size=64, log_every=100, eval_every=5000, checkpoint_every=5000, keep_every=50_000
    )
    _schedule(config, epoch=138, epochs=600, halve=(50, 100))


def _published_losses(config):
    config.model.loss.kl = 2.0
    for phase in ("g", "d", "penalty", "g2", "d2"):
        config.optimizer[phase].lr = 2e-4


def _schedule(config, epoch, epochs, halve):
    """Each stage `epochs` of `epoch` steps, rates halved every `halve[0]` and `halve[1]` epochs."""
    for phases, every in zip((("g", "d"), ("g2", "d2")), halve, strict=True):
        milestones = tuple(epoch * i for i in range(every, epochs, every))
        for phase in phases:
            config.optimizer[phase] = configs.optimizer(
                2e-4, b1=0.5, schedule="multistep", milestones=milestones, gamma=0.5
            )
    config.model.gan_stop = config.model.damsm_steps + epoch * epochs
    config.train.steps = config.model.gan_stop + epoch * epochs


def _emoji(config):
    _published_losses(config)
    config.data.update(source="emoji", size=64, vocabulary_size=2048)  # of 1,944 words
    t2i_lstm(config, 3000)
    config.model.generator.update(features=64, z=100, condition=128)
    config.model.discriminator.features = 64
    config.model.stage2.generator.update(features=64, blocks=4)
    config.model.stage2.discriminator.features = 64
    config.train.batch_size = 64
    config.model.gan_stop = 40_000
    config.train.update(steps=80_000, eval_every=5000, checkpoint_every=5000)


def _folder(config):
    _large(config)
    config.data.update(source="folder", crop="random", enlarge=304 / 256, workers=4)


def _cub(config):
    _large(config)
    config.data.update(source="cub", crop="bbox", enlarge=304 / 256, flip=True, workers=4)


def _coco(config):
    _large(config)
    config.data.update(source="coco", crop="random", enlarge=304 / 256, flip=True, workers=8)
    config.data.vocabulary_size = 8192
    config.model.form = "pytorch"
    config.model.damsm_steps = 50_000
    config.model.generator.features = 192
    config.model.discriminator.features = 96
    config.model.stage2.generator.update(features=192, blocks=2)
    config.model.stage2.discriminator.features = 96
    # Stage II's discriminator judges pictures without their text, too.
    config.model.stage2.loss.update(
        real=0.5, image_real=0.5, fake=1 / 3, mismatch=1 / 3, image_fake=1 / 3
    )
    _schedule(config, epoch=1293, epochs=120, halve=(20, 20))


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "stage1": _stage1,
    "unet": _unet,
    "emoji": _emoji,
    "folder": _folder,
    "cub": _cub,
    "coco": _coco,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "10 minutes of 2 CPU cores",
    "tiny": "seconds",
    "stage1": "4 minutes of 2 CPU cores",
    "unet": "15 minutes of 2 CPU cores",
    "emoji": "a GPU",
    "folder": "2 GPUs",
    "cub": "2 GPUs",
    "coco": "2 GPUs",
}
