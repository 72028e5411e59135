"""GAN-INT-CLS: the first text-to-image GAN (Reed et al., ICML 2016), and its parts alone.

    python -m jaxgen.main --config=configs/gan_cls.py

trains a small one on captioned shapes at 32 px, within 10 minutes on 2 CPU cores. Then

    jaxgen generate "a large red circle" --model runs/gan_cls -n 8 --seed 1

The discriminator also sees real pictures with a false caption (CLS), and the generator also draws
from texts halfway between two captions (INT).

Variants (`--config=configs/gan_cls.py:NAME`):
  tiny     seconds; what the tests run.
  gan      neither: a conditional GAN whose discriminator need not read the text.
  cls      GAN-CLS: false captions alone.
  int      GAN-INT: halfway texts alone.
  int_cls  both, as the default.
  unet     the default with the U-Net discriminator and CutMix in place of the paper's.
  emoji    emoji with their names, 64 px.
  folder   pictures of your own with their captions: --config.data.path=FOLDER, 64 px.
  cub      the paper's networks (18,909,699 and 4,032,321 parameters with 1,024-wide sentences) and
           schedule on CUB-200-2011, 64 px; data.captions is the folder of the birds' texts.
  coco     the paper's wider networks (41,107,551 and 36,190,557) and schedule on COCO; data.path
           and data.captions are the folders of its pictures and of its annotations.
"""

from jaxgen import config as configs
from jaxgen.tasks.t2i.config import t2i_config, t2i_loss, t2i_lstm, t2i_tiny


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = t2i_config(
        "gan_cls",
        generator={"features": 32, "z": 100, "condition": 64},
        discriminator={"form": "own", "features": 32, "condition": 64},  # form: own | unet
        loss=t2i_loss(
            kind="nonsaturating", real=1.0, fake=0.5, mismatch=0.5, interpolate=1.0,
            damsm_words=False,
        ),
    )  # fmt: skip
    config.model.damsm_steps = 1500
    config.model.ema = 0.999
    config.train.update(steps=5000, eval_every=500, checkpoint_every=500)
    for phase in ("g", "d", "penalty"):
        config.optimizer[phase] = configs.optimizer(4e-4, b1=0.5, schedule="cosine", final=0.2)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    t2i_tiny(config)
    config.model.generator.update(features=4, z=8, condition=8)
    config.model.discriminator.update(features=4, condition=8)
    config.model.loss.interpolate = 0.0  # a third of the time to compile


def _gan(config):
    config.model.loss.update(mismatch=0.0, fake=1.0, interpolate=0.0)


def _cls(config):
    config.model.loss.interpolate = 0.0


def _int(config):
    config.model.loss.update(mismatch=0.0, fake=1.0)


def _unet(config):
    with config.unlocked():
        config.model.discriminator = {"form": "unet", "features": 16}
    config.model.loss.update(cutmix=1.0, cutmix_warmup=1000)


def _large(config):
    """64 px, the paper's networks, and an encoder trained by the matching loss."""
    config.data.size = 64
    for phase in ("g", "d", "penalty"):
        config.optimizer[phase].update(lr=2e-4, schedule="constant")  # the paper's
    t2i_lstm(config, 10_000)
    config.model.generator.update(features=128, condition=128)
    config.model.discriminator.update(features=64, condition=128)
    config.train.update(
        batch_size=64, log_every=100, eval_every=5000, checkpoint_every=5000, keep_every=50_000
    )


def _emoji(config):
    _large(config)
    config.data.update(source="emoji", vocabulary_size=2048)  # of 1,944 words
    config.train.steps = 60_000


def _folder(config):
    _large(config)
    config.data.update(source="folder", crop="random", enlarge=76 / 64, workers=4)
    config.train.steps = 60_000


def _schedule(config, epoch, epochs, halve):
    """`epochs` of `epoch` steps after the encoder's, the rate halved every `halve` epochs."""
    for phase in ("g", "d"):
        config.optimizer[phase] = configs.optimizer(
            2e-4,
            b1=0.5,
            schedule="multistep",
            milestones=tuple(epoch * i for i in range(halve, epochs, halve)),
            gamma=0.5,
        )
    config.train.steps = config.model.damsm_steps + epoch * epochs


def _cub(config):
    _large(config)
    config.data.update(source="cub", crop="random", enlarge=76 / 64, flip=True, workers=4)
    _schedule(config, epoch=138, epochs=600, halve=100)  # 8,855 pictures, 64 a step


def _coco(config):
    _large(config)
    config.data.update(source="coco", crop="random", enlarge=76 / 64, flip=True, workers=8)
    config.data.vocabulary_size = 8192
    config.model.damsm_steps = 50_000
    config.model.generator.features = 196
    config.model.discriminator.features = 196
    _schedule(config, epoch=1293, epochs=200, halve=40)  # 82,783 pictures, 64 a step


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "gan": _gan,
    "cls": _cls,
    "int": _int,
    "int_cls": _default,
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
    "gan": "10 minutes of 2 CPU cores",
    "cls": "10 minutes of 2 CPU cores",
    "int": "10 minutes of 2 CPU cores",
    "int_cls": "10 minutes of 2 CPU cores",
    "unet": "15 minutes of 2 CPU cores",
    "emoji": "a GPU",
    "folder": "a GPU",
    "cub": "a GPU",
    "coco": "a GPU",
}
