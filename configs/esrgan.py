"""ESRGAN and Real-ESRGAN (Wang et al., ECCVW 2018 and ICCVW 2021).

    python -m jaxgen.main --config=configs/esrgan.py

trains a small RRDBNet for pixels, then ESRGAN from it, x4, on the photos that scikit-image
carries: no download, within 10 minutes on 2 CPU cores. Held-out photos: astronaut, chelsea.

Variants (`--config=configs/esrgan.py:NAME`):
  tiny        seconds; what the tests run.
  paper       ESRGAN: RRDBNet with 23 blocks on a folder of photos (set data.path) or
              data.source=df2k (DIV2K + Flickr2K), 128x128 crops, batch 16. PSNR model 1M steps,
              Adam 2e-4 halved every 200k; then the GAN 400k at 1e-4, halved at 50k, 100k, 200k,
              300k. Needs VGG19: --config.model.loss.perceptual_weights=file:vgg19.pth. Published
              for the PSNR model: Set5 32.73 dB.
  realesrgan  Real-ESRGAN x4 for real photos: blind degradation, 256x256 crops, U-Net
              discriminator, five VGG layers. From a PSNR model of the same degradation
              (Real-ESRNet, the first stage here).
  x2          the same for scale 2.
  anime       the same with 6 blocks, as of "RealESRGAN x4plus anime 6B".
  compact     the same with SRVGGNetCompact of 32 convolutions, as of "general x4v3".
"""

from jaxgen import config as configs
from jaxgen.tasks.sr.config import VGG19_PERCEPTUAL, sr_config, sr_loss


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = sr_config(
        "esrgan",
        generator={
            "form": "rrdb",  # or srvgg, which has features and convs only
            "features": 32,
            "blocks": 2,
            "growth": 16,
            "skip": True,  # adds the bicubic picture: not in the paper
            "remat": False,  # saves memory, costs time: for GPU and TPU
        },
        # or unet, which has features only
        discriminator={"form": "vgg", "features": 16, "hidden": 100},
        pretrain_steps=2000,
        loss=sr_loss(adversarial_kind="relativistic", label_smoothing=0.0),
    )
    config.optimizer.pretrain.lr = 1e-3
    config.optimizer.d.lr = 1e-4
    config.train.update(steps=2400, eval_every=1000)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    config.data.hr_size = 32
    config.model.generator.update(features=8, blocks=1, growth=4)
    config.model.discriminator.update(features=4, hidden=8)
    config.model.pretrain_steps = 4
    config.model.loss.update(perceptual_width=0.125, perceptual_layers=(("conv1_2", 1.0),))
    config.optimizer.pretrain.warmup = 0
    configs.train_briefly(config, steps=8)
    config.eval.update(images=1, crop=64)


def _paper(config):
    config.data.update(source="folder", hr_size=128, workers=8, rescale=(1.0, 1.0))
    config.model.generator.update(features=64, blocks=23, growth=32, skip=False)
    config.model.discriminator.update(features=64)
    config.model.pretrain_steps = 1_000_000
    config.mesh.fsdp_min_size = 2**14  # its largest kernel has 110,592 elements
    config.model.loss.update(
        VGG19_PERCEPTUAL,
        # The paper's 1e-2 counts pixels in [0, 1]; ours lie in [-1, 1], twice as far apart.
        pixel=0.5e-2,
        adversarial=5e-3,
    )
    config.optimizer.pretrain = configs.optimizer(
        2e-4, schedule="multistep", milestones=(200_000, 400_000, 600_000, 800_000)
    )
    for phase in ("g", "d"):
        config.optimizer[phase] = configs.optimizer(
            1e-4, schedule="multistep", milestones=(50_000, 100_000, 200_000, 300_000)
        )
    config.model.ema = 0.999
    config.train.update(
        steps=1_400_000,
        batch_size=16,
        log_every=100,
        eval_every=5000,
        checkpoint_every=5000,
        keep_every=100_000,
    )
    config.eval.images = 20


def _realesrgan(config):
    _paper(config)
    config.data.update(hr_size=256, degradation="blind")
    with config.unlocked():
        config.model.discriminator = {"form": "unet", "features": 64}
    config.model.loss.update(
        pixel=0.5,  # published: 1, for pixels in [0, 1]
        perceptual_layers=(
            ("conv1_2", 0.1),
            ("conv2_2", 0.1),
            ("conv3_4", 1.0),
            ("conv4_4", 1.0),
            ("conv5_4", 1.0),
        ),
        adversarial=0.1,
        adversarial_kind="nonsaturating",
    )
    config.optimizer.pretrain = configs.optimizer(2e-4)
    config.optimizer.g = configs.optimizer(1e-4)
    config.optimizer.d = configs.optimizer(1e-4)
    config.train.batch_size = 48


def _x2(config):
    _realesrgan(config)
    config.data.scale = 2


def _anime(config):
    _realesrgan(config)
    config.model.generator.blocks = 6


def _compact(config):
    _realesrgan(config)
    with config.unlocked():
        config.model.generator = {"form": "srvgg", "features": 64, "convs": 32}


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "paper": _paper,
    "realesrgan": _realesrgan,
    "x2": _x2,
    "anime": _anime,
    "compact": _compact,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "9 minutes of 2 CPU cores",
    "tiny": "seconds",
    "paper": "a GPU with 16 GB",
    "realesrgan": "4 GPUs",
    "x2": "4 GPUs",
    "anime": "4 GPUs",
    "compact": "4 GPUs",
}
