"""Latent diffusion: pictures from noise and words (Rombach et al., CVPR 2022).

    python -m jaxgen.main --config=configs/vae.py
    python -m jaxgen.main --config=configs/ldm.py --config.parts.first_stage=runs/vae

trains a small one on captioned shapes at 32 px, in the latent space of the autoencoder, within 10
minutes on 2 CPU cores in all. Without an autoencoder, among pixels (`:pixels`):

    python -m jaxgen.main --config=configs/ldm.py:pixels
    jaxgen generate "a large red circle" --model runs/ldm -n 8 --seed 1
    jaxgen generate "a large red circle" --model runs/ldm --steps 16 --guidance 3 --show-steps 8
    jaxgen generate "a blue square" --model runs/ldm --init photo.png --mask mask.png

A flow (x goes straight from the picture to noise) that a UNet learns, and a small transformer that
reads the captions, trained along. Watch "denoising", the error at five fixed times on validation
pictures, and caption accuracy ("whole", of pairs of colour and shape that were trained on;
"held_out_whole" of others), all by the averaged weights. `model.sampling` has the settings that
pictures are drawn with where nobody says others.

Variants (`--config=configs/ldm.py:NAME`):
  pixels     no autoencoder: the UNet sees 2 x 2 pixels as one place.
  tiny       seconds; what the tests run.
  uncond     no text: any scene. Watch "valid", the share of pictures that could be of the data.
  class      classes in place of texts, the 200 birds of CUB: --config.data.captions=FOLDER, and an
             autoencoder of such pictures.
  eps        noise as the target on Stable Diffusion's schedule, with min-SNR weights.
  folder     pictures of your own with captions at 64 px: --config.data.path=FOLDER;
             configs/vae.py:folder first.
  coco       COCO's captions at 128 px: --config.data.path=PICTURES --config.data.captions=TEXTS;
             configs/vae.py:folder on the same pictures first. A GPU.
  emoji      emoji with their names at 32 px, among pixels.
  shapes64   one or two objects, the two with a relation between them, at 64 px;
             configs/vae.py:shapes64 and its latents first. Watch "whole_2".
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section
from jaxgen.tasks.ldm.config import EVAL, MODEL


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("ldm")
    config.data = section.defaults()
    config.data.length = 12
    config.model = keys.defaults(MODEL)
    config.model.denoiser = {
        "form": "unet",
        "channels": (64, 96),  # of the levels
        "blocks": 1,
        "attention": (0, 1),  # levels with attention, beside the middle
        "middle_attention": True,
        "depth": 1,
        "heads": 4,
        "head_width": 0,
        "linear": True,
        "groups": 16,
        "patch": 1,  # side of the pixels or latents that are one place
        "coordinates": True,  # two channels that say where a place is
        "dropout": 0.0,
        "remat": False,
    }
    config.model.sentence = True
    config.model.times.update(density="logit-normal", mean=1.0, std=1.3, early=300)
    config.model.sampling.update(steps=16, guidance=1.5)
    config.model.ema = 0.995
    # A run, an exported folder or a bundled model. Without an autoencoder among pixels; without a
    # text encoder one is trained along.
    config.parts = {"first_stage": "", "text": ""}
    config.optimizer = {
        "g": configs.optimizer(
            2e-3, name="adamw", b2=0.99, weight_decay=0.01, decays="kernels", clip_norm=1.0,
            schedule="cosine", final=0.02, warmup=50,
        )
    }  # fmt: skip
    config.train.update(
        steps=1600, batch_size=32, log_every=100, eval_every=400, checkpoint_every=400
    )
    config.train.init_from = {"g": "", "text": ""}
    config.eval = keys.defaults(EVAL)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _pixels(config):
    config.model.denoiser.update(patch=2, attention=())
    config.train.update(steps=2000, eval_every=500)


def _tiny(config):
    _pixels(config)
    config.data.update(size=16, count=64)
    config.model.denoiser.update(channels=(8, 16), heads=2, groups=4)
    config.model.text.update(width=8, layers=1, heads=2)
    config.model.sampling.steps = 3
    config.model.times.early = 2
    config.model.ema = 0.9
    configs.train_briefly(config, steps=4)
    config.optimizer.g.warmup = 0
    config.eval.update(captions=4, pictures=2, noises=2)


def _uncond(config):
    _pixels(config)
    config.model.update(condition="none", drop_condition=0.0)
    config.model.times.early = 0


def _class(config):
    _large(config)
    config.data.update(source="cub", size=128, crop="bbox", flip=True)
    config.model.update(condition="class", classes=201)


def _eps(config):
    _pixels(config)
    config.model.update(target="eps", min_snr=5.0)
    config.model.schedule.kind = "scaled-linear"
    config.model.times.density = "uniform"
    config.model.sampling.update(sampler="dpmpp-2m", steps=20)


def _large(config):
    """Latents of larger pictures, hours on a GPU."""
    config.model.denoiser.update(
        channels=(128, 256, 384), blocks=2, attention=(1, 2), heads=8, groups=32
    )
    config.model.text.update(width=256, layers=4, heads=8)
    config.model.sampling.update(steps=30, guidance=5.0)
    config.model.ema = 0.9999
    config.model.times.update(mean=0.0, std=1.0, early=0)
    config.optimizer.g.update(lr=1e-4, schedule="constant", final=0.0, warmup=1000, b2=0.999)
    config.train.update(steps=200_000, batch_size=128, eval_every=10_000, checkpoint_every=5000)


def _folder(config):
    _large(config)
    config.data.update(source="folder", size=64, length=32, crop="random", enlarge=1.25, flip=True)


def _coco(config):
    _large(config)
    config.data.update(source="coco", size=128, length=32, crop="random", enlarge=1.1, flip=True)
    config.data.update(tokenizer="bpe", vocabulary_size=8192)


def _emoji(config):
    _pixels(config)
    # Half of the words stand in one name alone: pieces of them are shared.
    config.data.update(source="emoji", tokenizer="bpe", length=16)
    config.model.denoiser.update(channels=(96, 192), dropout=0.1)
    config.model.text.update(width=128, dropout=0.1)
    config.model.ema = 0.999
    config.train.update(steps=20_000, eval_every=2000, checkpoint_every=1000)


def _shapes64(config):
    # One caption in five of two objects leaves the places to a relation, which is learnt last.
    config.data.update(size=64, objects=(1, 2), relations=6, length=24, count=40_000)
    config.model.denoiser.attention = (0,)
    config.model.text.update(width=96, layers=3)
    config.model.times.early = 600
    config.model.ema = 0.998
    config.train.update(steps=8000, eval_every=1600)


VARIANTS = {
    "": _default,
    "pixels": _pixels,
    "tiny": _tiny,
    "uncond": _uncond,
    "class": _class,
    "eps": _eps,
    "folder": _folder,
    "coco": _coco,
    "emoji": _emoji,
    "shapes64": _shapes64,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "4 minutes of 2 CPU cores",
    "pixels": "8 minutes of 2 CPU cores",
    "tiny": "seconds",
    "uncond": "8 minutes of 2 CPU cores",
    "class": "a GPU",
    "eps": "8 minutes of 2 CPU cores",
    "folder": "a GPU",
    "coco": "a GPU",
    "emoji": "an hour of 2 CPU cores",
    "shapes64": "70 minutes of 2 CPU cores",
}
