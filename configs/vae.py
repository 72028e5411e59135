"""KL autoencoder: pictures as small maps of numbers, and back (Rombach et al., CVPR 2022).

    python -m jaxgen.main --config=configs/vae.py

trains a small one on captioned shapes at 32 px, within 10 minutes on 2 CPU cores. Then

    jaxgen reconstruct photo.png --model runs/vae -o again.png
    jaxgen encode photo.png --model runs/vae -o photo.npz
    jaxgen decode photo.npz --model runs/vae -o again.png

It is the first stage of latent diffusion (configs/ldm.py), which draws such latents. The default
makes 8 x 8 places of 4 numbers of a picture (f4). A divergence of little weight keeps them near a
standard normal; what brings them to a deviation of 1 is measured in training. Watch
"psnr_rgb", "read_whole" (the share of scenes of which everything is still right after encoding and
decoding), and "g/kl", nats a picture.

LPIPS needs weights of your own (--config.model.loss.lpips="('vgg16.pth','lpips_vgg.pth')"); without
them the distance of a random network's features stands in its place, named so in the log.

Variants (`--config=configs/vae.py:NAME`):
  tiny       seconds; what the tests run.
  f8         the default with 4 x 4 places of 16 numbers.
  shapes64   one or two objects, the two with a relation between them, at 64 px: 8 x 8 of 8. Sees
             4 x 4 pixels as one place, has no discriminator.
  emoji      emoji at 32 px; no captions are read.
  folder     pictures of your own at 64 px, f8: --config.data.path=FOLDER. No captions needed.
  sd         the published KL-f8: 256 px crops, 32 x 32 of 4, 83,653,863 parameters, weights of the
             losses as published; --config.data.path=FOLDER. A GPU with 24 GB.
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
        "vae",
        autoencoder={"latent": 4},
        loss={"bottleneck": 1e-4},
        scaling=0.0,  # of the latents; 0: measured
    )
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    tiny(config)
    config.model.autoencoder.latent = 2


def _f8(config):
    config.model.autoencoder.update(widths=(1, 2, 2, 2), latent=16)


def _shapes64(config):
    config.data.update(size=64, objects=(1, 2))
    config.model.autoencoder.update(features=64, widths=(1, 1), patch=4, latent=8)
    without_gan(config)
    # Some 600 nats of a scene in place of the 5,200 of 1e-4: the less they hold, the sooner a
    # denoiser among them has learnt it (docs/results.md).
    config.model.loss.update(perceptual=0.0, bottleneck=0.03)
    config.train.update(steps=3500, eval_every=1750, checkpoint_every=1750)
    config.optimizer.pretrain.final = 0.05


def _emoji(config):
    config.data.source = "emoji"
    config.train.update(steps=10_000, eval_every=1000, checkpoint_every=1000)
    config.model.update(gan_start=7000, d_warmup=500)


def _folder(config):
    config.data.update(source="plain", size=64, crop="random", enlarge=1.25, flip=True)
    config.model.autoencoder.update(features=64, widths=(1, 2, 4, 4), blocks=2, groups=16)
    config.model.discriminator.update(features=64, layers=3)
    config.model.loss.update(
        pixel_kind="l1", pixel=1.0, perceptual=1.0, adversarial=0.5, bottleneck=1e-6
    )
    config.train.update(steps=100_000, eval_every=5000, checkpoint_every=5000)
    config.model.update(gan_start=20_000, d_warmup=1000)


def _sd(config):
    """As latent-diffusion trained it, but for D's warm-up; its rate times the batch of 4 x 3."""
    config.data.update(source="plain", size=256, crop="random", enlarge=1.0)
    config.model.autoencoder = {
        "features": 128, "widths": (1, 2, 4, 4), "blocks": 2, "attention": (), "latent": 4,
    }  # fmt: skip
    config.model.scaling = 0.18215
    config.model.discriminator.update(features=64, layers=3)
    config.model.loss.update(
        pixel_kind="l1", pixel=1.0, perceptual=1.0, adversarial=0.5, bottleneck=1e-6
    )
    config.train.update(steps=500_000, batch_size=12, eval_every=10_000, checkpoint_every=10_000)
    config.model.update(gan_start=50_001, d_warmup=5000)
    autoencoder_rates(config, 12 * 4.5e-6, b1=0.5, b2=0.9, schedule="constant", warmup=0)


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "f8": _f8,
    "shapes64": _shapes64,
    "emoji": _emoji,
    "folder": _folder,
    "sd": _sd,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "4 minutes of 2 CPU cores",
    "tiny": "seconds",
    "f8": "10 minutes of 2 CPU cores",
    "shapes64": "15 minutes of 2 CPU cores",
    "emoji": "15 minutes of 2 CPU cores",
    "folder": "a GPU",
    "sd": "a GPU",
}
