"""VQGAN: pictures as codes of a learned codebook, and back (Esser et al., CVPR 2021).

    python -m jaxgen.main --config=configs/vqgan.py

trains a small one on captioned shapes at 32 px, within 10 minutes on 2 CPU cores. Then

    jaxgen reconstruct photo.png --model runs/vqgan -o again.png
    jaxgen encode photo.png --model runs/vqgan -o photo.npz
    jaxgen decode photo.npz --model runs/vqgan -o again.png

It is the first stage of a prior (configs/prior.py), which learns to write such codes. The default
has 8 x 8 codes of 256 for a picture; its codebook is a running mean of what falls to each code,
begins by k-means, and moves codes that nothing falls to. The pixels' distance is squared: with
absolute values the colours of small objects come late. Watch "psnr_rgb", "read_whole" (the share of
scenes of which everything is still right after encoding and decoding), and "usage" of the codebook:
a collapsed one has a few per cent. "g/adaptive" is the weight of the discriminator.

LPIPS needs weights of your own (--config.model.loss.lpips="('vgg16.pth','lpips_vgg.pth')"); without
them the distance of a random network's features stands in its place, named so in the log.

Variants (`--config=configs/vqgan.py:NAME`):
  tiny       seconds; what the tests run.
  vqvae      the default without a discriminator, and without attention and normalisation, so that
             pictures of any size are tiled exactly.
  gumbel     the default, its codes drawn by the Gumbel-softmax at a falling temperature.
  fsq        finite scalar quantisation: 240 codes of three numbers, no codebook at all.
  lfq        lookup-free quantisation: the signs of eight numbers, with the entropy loss.
  vq         the default with a codebook that is trained by gradient, as the paper's.
  cosine     codes compared by their direction in four dimensions.
  shapes64   one or two objects, the two with a relation between them, at 64 px: 8 x 8 codes of
             512. Sees 4 x 4 pixels as one place, has no discriminator.
  emoji      emoji at 32 px as 8 x 8 codes of 1,024, without a discriminator; reads no captions.
  folder     pictures of your own at 64 px: --config.data.path=FOLDER. No captions needed.
  f16        the published size: 256 px, 16 x 16 codes of 16,384, 71,747,971 parameters in encoder
             and decoder; --config.data.path=FOLDER. The discriminator counts from step 250,001 on.
             A GPU with 24 GB.
  f8         the published size with 32 x 32 codes of 8,192, drawn by the Gumbel-softmax: 64,661,891
             parameters.
  segmentation  gray pictures of classes, 183 with "none" (COCO-Stuff): cross-entropy, no
             discriminator; --config.data.path=FOLDER --config.model.channels=CLASSES.
  depth      depth maps, each stretched to its own range; --config.data.path=FOLDER.
"""

from jaxgen import config as configs
from jaxgen.tasks.autoencoder.config import (
    autoencoder_config,
    autoencoder_rates,
    tiny,
    without_gan,
)


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = autoencoder_config(
        "vqgan",
        autoencoder={"form": "taming", "latent": 64},  # form: taming | maskgit
        loss={},
        quantize={
            "form": "ema",
            "codes": 256,
            "width": 16,
            "decay": 0.95,
            "kmeans": 10,
            "revive": 0.1,
        },
        temperature={"start": 1.0, "end": 0.0625, "steps": 1500},
    )
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    tiny(config)
    config.model.autoencoder.latent = 8
    config.model.quantize = {"form": "vq", "codes": 16, "width": 4}


def _vqvae(config):
    without_gan(config)
    config.model.autoencoder.update(groups=0, middle_attention=False)


def _gumbel(config):
    config.model.quantize = {"form": "gumbel", "codes": 256, "width": 16}


def _fsq(config):
    config.model.quantize = {"form": "fsq", "codes": 240, "width": 16}


def _lfq(config):
    config.model.quantize = {"form": "lfq", "codes": 256, "width": 16}


def _vq(config):
    config.model.quantize = {"form": "vq", "codes": 256, "width": 16, "kmeans": 10, "revive": 0.1}


def _cosine(config):
    config.model.quantize.update(form="cosine", dim=4)


def _shapes64(config):
    config.data.update(size=64, objects=(1, 2))
    _plain(config, patch=4)
    config.model.quantize.codes = 512  # twice as many give better pictures, and priors learn less
    config.train.update(steps=3000, eval_every=1500, checkpoint_every=1500)


def _plain(config, patch):
    """Pixels alone are its loss, and squares of `patch` pixels its places: little work a step."""
    config.model.autoencoder.update(features=64, widths=(1, 1), patch=patch)
    without_gan(config)
    config.model.loss.perceptual = 0.0
    config.optimizer.pretrain.final = 0.05


def _emoji(config):
    config.data.source = "emoji"
    _plain(config, patch=2)
    config.model.quantize.update(codes=1024, decay=0.98, revive=0.05)
    config.train.update(steps=4000, eval_every=2000, checkpoint_every=1000)


def _folder(config):
    config.data.update(source="plain", size=64, crop="random", enlarge=1.25, flip=True)
    config.model.autoencoder.update(features=64, widths=(1, 2, 4), blocks=2, latent=128, groups=16)
    config.model.quantize.update(codes=1024, width=32)
    config.model.discriminator.update(features=64, layers=3)
    config.model.loss.update(pixel_kind="l1", pixel=1.0, perceptual=1.0, adversarial=0.8)
    config.train.update(steps=100_000, eval_every=5000, checkpoint_every=5000)
    config.model.update(gan_start=20_000, d_warmup=1000)


def _published(config, widths):
    """As taming-transformers trained them, but for D's warm-up and the order of beta."""
    config.data.update(source="plain", size=256, crop="random", enlarge=1.0)
    config.model.autoencoder = {
        "form": "taming", "features": 128, "widths": widths, "blocks": 2,
        "attention": (len(widths) - 1,), "latent": 256,
    }  # fmt: skip
    config.model.discriminator.update(features=64, layers=3)
    config.model.loss.update(pixel_kind="l1", pixel=1.0, perceptual=1.0, adversarial=0.8)
    config.train.update(steps=1_000_000, batch_size=12, eval_every=10_000, checkpoint_every=10_000)
    config.model.update(gan_start=250_001, d_warmup=5000)
    autoencoder_rates(config, 12 * 4.5e-6, b1=0.5, b2=0.9, schedule="constant", warmup=0)


def _f16(config):
    _published(config, (1, 1, 2, 2, 4))
    config.model.quantize = {"form": "vq", "codes": 16384, "width": 256}


def _f8(config):
    _published(config, (1, 1, 2, 4))
    config.model.quantize = {"form": "gumbel", "codes": 8192, "width": 256, "kl": 1e-8}
    config.model.temperature.steps = 150_000


def _segmentation(config):
    _folder(config)
    without_gan(config)
    config.data.source = "segmentation"
    config.model.channels = 183
    config.model.loss.update(pixel_kind="bce", perceptual=0.0)


def _depth(config):
    _folder(config)
    config.data.source = "depth"
    config.model.channels = 1


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "vqvae": _vqvae,
    "gumbel": _gumbel,
    "fsq": _fsq,
    "lfq": _lfq,
    "vq": _vq,
    "cosine": _cosine,
    "shapes64": _shapes64,
    "emoji": _emoji,
    "folder": _folder,
    "f16": _f16,
    "f8": _f8,
    "segmentation": _segmentation,
    "depth": _depth,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "8 minutes of 2 CPU cores",
    "tiny": "seconds",
    "vqvae": "8 minutes of 2 CPU cores",
    "gumbel": "8 minutes of 2 CPU cores",
    "fsq": "8 minutes of 2 CPU cores",
    "lfq": "8 minutes of 2 CPU cores",
    "vq": "8 minutes of 2 CPU cores",
    "cosine": "8 minutes of 2 CPU cores",
    "shapes64": "15 minutes of 2 CPU cores",
    "emoji": "20 minutes of 2 CPU cores",
    "folder": "a GPU",
    "f16": "a GPU with 24 GB",
    "f8": "a GPU with 24 GB",
    "segmentation": "a GPU",
    "depth": "a GPU",
}
