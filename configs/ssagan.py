"""SSA-GAN: text to image through masks that the network finds itself.

    python -m jaxgen.main --config=configs/ssagan.py

trains on procedural scenes of one coloured shape with captions, 32 px, on 2 CPU cores: first text
encoder and picture matcher (DAMSM), then the GAN. Then

    jaxgen generate "a large red circle" --model runs/ssagan -n 8 --seed 1

Variants (`--config=configs/ssagan.py:NAME`):
  tiny    seconds; what the tests run.
  unet    the default with the U-Net discriminator.
  paper   the paper's networks and recipe for CUB birds, 256 px: for GPUs. Needs data.captions.
  cub     the same.
  coco    the paper's for COCO, 256 px. Needs data.path and data.captions.
  emoji   Noto's emoji with their names, 64 px: for a GPU.
  folder  your own pictures and captions, 64 px: data.path=FOLDER.
"""

from jaxgen import config as configs
from jaxgen.tasks.t2i.config import t2i_config, t2i_loss, t2i_lstm, t2i_rates, t2i_tiny


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = t2i_config(
        "ssagan",
        generator={
            "features": 8,
            "z_size": 32,
            "hidden": 32,  # of the perceptrons that read the sentence
            "mask_features": 16,  # of the mask heads
            "sentence_first": True,  # whether the first layer sees the sentence, too
        },
        discriminator={"form": "own", "features": 8},  # own | unet
        # The penalty's weight is for 32 pixels, as in configs/dfgan.py.
        loss=t2i_loss(
            fake=1.0, magp=1e-3, penalty_apart=True, penalty_every=8,
            damsm=0.2, damsm_words=False,
        ),
        damsm_steps=1500,
    )  # fmt: skip
    # Not down to nothing: below a fifth of these rates its pictures became worse again.
    t2i_rates(config, g=3e-4, d=1e-3, schedule="cosine", final=0.5)
    config.model.ema = 0.999
    config.train.update(steps=4000, eval_every=500, checkpoint_every=500)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    t2i_tiny(config)
    config.model.match.update(features=2, width=8)
    config.model.generator.update(features=2, z_size=4, hidden=4, mask_features=2)
    config.model.discriminator.features = 2
    config.model.text.trained_by = "damsm"
    config.model.damsm_steps = 2
    config.model.loss.penalty_every = 1
    config.train.steps = 6


def _unet(config):
    config.model.discriminator.form = "unet"
    config.model.loss.cutmix = 1.0


def _published_losses(config):
    config.model.loss.update(fake=0.5, magp=2.0, damsm=0.05)
    t2i_rates(config, g=1e-4, d=4e-4, schedule="constant")


def _paper(config):
    config.data.update(
        source="cub", size=256, crop="bbox", enlarge=76 / 64, flip=True, length=19,
        vocabulary_size=6000, workers=8,
    )  # fmt: skip
    t2i_lstm(config, 40_000)
    config.model.generator.update(
        features=64, z_size=100, hidden=256, mask_features=100, sentence_first=False
    )
    config.model.discriminator.features = 64
    config.model.ema = 0.0
    _published_losses(config)
    config.model.loss.update(penalty_every=1, damsm_gamma=(5.0, 5.0, 10.0))
    config.train.update(
        steps=261_000, batch_size=24, eval_every=10_000, checkpoint_every=5000
    )  # 600 epochs after the matching


def _coco(config):
    _paper(config)
    config.data.update(source="coco", crop="random", flip=False, vocabulary_size=30_000)
    config.train.steps = 40_000 + 414_000  # 120 epochs


def _emoji(config):
    _own_pictures(config)
    config.data.update(source="emoji", vocabulary_size=2048)  # of 1,944 words


def _folder(config):
    _own_pictures(config)
    config.data.source = "folder"


def _own_pictures(config):
    config.data.size = 64
    config.model.loss.magp = 0.05
    t2i_lstm(config, 3000)
    config.model.generator.update(features=32, z_size=100, hidden=128, mask_features=32)
    config.model.discriminator.features = 32
    config.train.update(steps=60_000, eval_every=5000, checkpoint_every=5000)


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "unet": _unet,
    "paper": _paper,
    "cub": _paper,
    "coco": _coco,
    "emoji": _emoji,
    "folder": _folder,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "10 minutes of 2 CPU cores",
    "tiny": "seconds",
    "unet": "15 minutes of 2 CPU cores",
    "paper": "2 GPUs",
    "cub": "2 GPUs",
    "coco": "2 GPUs",
    "emoji": "a GPU",
    "folder": "a GPU",
}
