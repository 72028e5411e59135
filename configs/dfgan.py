"""DF-GAN: text to image by one generator and one discriminator (Tao et al., CVPR 2022).

    python -m jaxgen.main --config=configs/dfgan.py

trains a small one on captioned shapes at 32 px, within 10 minutes on 2 CPU cores. Then

    jaxgen generate "a large red circle" --model runs/dfgan -n 8 --seed 1

The default is made for minutes. First the text encoder learns with a small picture encoder which
captions go with which pictures (DAMSM), and then stays as it is. Then the GAN: the sentence also
goes into the generator's first layer, the matching loss goes on in the generator's, and the
gradient penalty is weighted for 32 pixels. The published networks and schedule are `paper`. Watch
caption accuracy ("whole", of pairs of colour and shape that were trained on; "held_out_whole" of
others) and "diversity", which falls to zero where a model collapses. docs/results.md has the
figures.

Variants (`--config=configs/dfgan.py:NAME`):
  tiny       seconds; what the tests run.
  rdb        the default with residual dense blocks in the generator (seed 001's IMAGAN): each
             block's second convolution becomes a dense block of about its size.
  unet       the default with a U-Net discriminator, a logit for each pixel too, and CutMix.
  2020       the default's size in the form of the first version (arXiv 2020): affine maps of the
             sentence alone, residuals that start at zero, the penalty in an update of its own.
  bf16       the default in bfloat16; parameters, logits and penalties stay float32.
  hour       the default's recipe with 9,000 steps of the GAN: the bundled model, in 24 minutes.
  shapes64   wider networks at 64 px, one or two shapes a scene, an LSTM that reads their order: for
             a GPU.
  paper      CUB-200-2011 at 256 px as published: 9,744,131 parameters in the generator, 32 a step,
             360,000 steps (1,300 epochs), the penalty at every step, no average of the weights;
             before them 50,000 steps for the text encoder. FID 14.81 is published, with a text
             encoder trained against Inception v3. data.captions is the folder of the birds' texts.
             A GPU with 12 GB.
  cub        the same birds at 128 px in a third of the steps, with an average of the weights.
  coco       COCO at 256 px, the published networks and 776,000 steps (300 epochs); FID 19.32 is
             published. data.path and data.captions are the folders of its pictures and captions.
  emoji      emoji with their names at 64 px (--config.data.size=128 works, too).
  emoji_rdb  the same with dense blocks.
  emoji32    emoji at 32 px by small networks: an hour of 2 CPU cores.
  folder     pictures of your own with their captions at 64 px: --config.data.path=FOLDER.
"""

from jaxgen import config as configs
from jaxgen.tasks.t2i.config import t2i_config, t2i_loss, t2i_lstm, t2i_rates, t2i_tiny


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = t2i_config(
        "dfgan",
        version="2022",  # 2022 | 2020: the first one, with other affine maps and widths
        generator={
            "features": 8,
            "z_size": 100,
            "block": "base",  # base | rdb
            "growth_divisor": 4,  # rdb: a dense block's growth is channels / this
            "layers": 3,  # rdb: convolutions of a dense block
            "scale": 0.2,  # rdb: of a dense block's residual
            "sentence_first": True,  # whether the first layer sees the sentence, too
        },
        discriminator={"form": "own", "features": 12},  # form: own | unet
        # The penalty holds the gradient's norm near 0.5 at the published weight 2, made for 256
        # pixels: D then can't tell pictures of 32 pixels, which lie eight times nearer.
        # Generated pictures weigh as much as real ones: at half of it, D let them pass for a
        # constant.
        loss=t2i_loss(
            fake=1.0, magp=1e-3, penalty_every=8, damsm=0.2,
            damsm_words=False,
        ),
        damsm_steps=1500,
    )  # fmt: skip
    t2i_rates(config, g=3e-4, d=1e-3, schedule="cosine", final=0.05)
    config.model.ema = 0.999
    config.train.update(steps=4200, eval_every=600, checkpoint_every=600)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    t2i_tiny(config)
    config.model.generator.update(features=4, z_size=8)
    config.model.discriminator.features = 4
    config.model.loss.update(penalty_every=2, damsm=0.0)


def _rdb(config):
    config.model.generator.block = "rdb"


def _unet(config):
    config.model.discriminator.form = "unet"
    config.model.loss.update(pixels=0.5, cutmix=1.0, cutmix_warmup=1000)


def _2020(config):
    config.model.version = "2020"
    config.model.generator.sentence_first = False
    config.model.loss.penalty_apart = True


def _bf16(config):
    config.train.dtype = "bfloat16"


def _hour(config):
    config.train.update(steps=10_500, eval_every=500, checkpoint_every=500)


def _shapes64(config):
    config.data.update(size=64, objects=(1, 2), count=100_000, workers=4)
    config.model.generator.features = 32
    config.model.discriminator.features = 32
    t2i_lstm(config, 3000)
    config.model.loss.magp = 0.05
    config.train.update(steps=50_000, batch_size=64, eval_every=5000, checkpoint_every=5000)


def _published(config):
    """The paper's networks and losses, and a text encoder that is trained before them."""
    config.data.update(size=256, crop="random", enlarge=76 / 64, flip=True, workers=8)
    t2i_lstm(config, 50_000)
    config.model.generator.update(features=32, sentence_first=False)
    config.model.discriminator.features = 32
    config.model.loss.update(fake=0.5, magp=2.0, penalty_every=1, damsm=0.0)
    config.model.ema = 0.0
    t2i_rates(config, g=1e-4, d=4e-4, schedule="constant")
    config.train.update(
        batch_size=32, log_every=100, eval_every=10_000, checkpoint_every=5000, keep_every=50_000
    )


def _paper(config):
    _published(config)
    config.data.update(source="cub", crop="bbox")
    config.train.steps = config.model.damsm_steps + 360_000  # 1,300 epochs of 276


def _cub(config):
    _paper(config)
    config.data.size = 128
    config.model.ema = 0.999
    config.train.steps = config.model.damsm_steps + 120_000


def _coco(config):
    _published(config)
    config.data.update(source="coco", tokenizer="bpe", vocabulary_size=8192)
    config.train.steps = config.model.damsm_steps + 776_000  # 300 epochs of 2,587


def _emoji(config):
    _shapes64(config)
    config.data.update(source="emoji", vocabulary_size=2048)  # of 1,944 words
    config.train.steps = 60_000


def _emoji_rdb(config):
    _emoji(config)
    _rdb(config)


def _emoji32(config):
    config.data.update(source="emoji", vocabulary_size=2048)  # of 1,944 words
    config.model.text.width = config.model.match.width = 128
    config.model.match.features = 32
    config.model.damsm_steps = 3000
    config.model.generator.features = 16
    config.model.discriminator.features = 16
    config.train.update(steps=18_000, eval_every=1000, checkpoint_every=1000)


def _folder(config):
    _shapes64(config)
    config.data.update(source="folder", crop="random", enlarge=76 / 64)
    config.train.steps = 60_000


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "rdb": _rdb,
    "unet": _unet,
    "2020": _2020,
    "bf16": _bf16,
    "hour": _hour,
    "shapes64": _shapes64,
    "paper": _paper,
    "cub": _cub,
    "coco": _coco,
    "emoji": _emoji,
    "emoji_rdb": _emoji_rdb,
    "emoji32": _emoji32,
    "folder": _folder,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "10 minutes of 2 CPU cores",
    "tiny": "seconds",
    "rdb": "15 minutes of 2 CPU cores",
    "unet": "15 minutes of 2 CPU cores",
    "2020": "10 minutes of 2 CPU cores",
    "bf16": "15 minutes of 2 CPU cores",
    "hour": "24 minutes of 2 CPU cores",
    "shapes64": "a GPU",
    "paper": "a GPU with 12 GB",
    "cub": "a GPU",
    "coco": "a GPU with 12 GB",
    "emoji": "a GPU",
    "emoji_rdb": "a GPU",
    "emoji32": "an hour of 2 CPU cores",
    "folder": "a GPU",
}
