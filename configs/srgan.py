"""SRGAN: photo-realistic super-resolution with a GAN (Ledig et al., CVPR 2017).

    python -m jaxgen.main --config=configs/srgan.py

trains a small SRResNet, then SRGAN from it, x4, on the photos that scikit-image carries: no
download, within 10 minutes on 2 CPU cores. Held-out photos: astronaut, chelsea.

Variants (`--config=configs/srgan.py:NAME`):
  tiny     seconds; what the tests run.
  paper    the paper's networks and schedule on a folder of photos (set data.path) or DIV2K
           (data.source=tfds, data.name=div2k/bicubic_x4): 96x96 crops, batch 16, Adam 1e-4,
           SRResNet 1e6 steps, then 1e5 at 1e-4 and 1e5 at 1e-5. Needs VGG19:
           --config.model.loss.perceptual_weights=file:vgg19.pth. Published for the x4 model:
           SRResNet Set5 32.05 dB, SRGAN 29.40 dB.
  seed004  Keras-SRGAN's networks (2,039,555 and 107,451,585 parameters) on DIV2K + Flickr2K
           resized whole to 224x224 from 56x56, batch 8 (data.div2k, data.flickr2k).
  inception  seed004 with Inception-ResNet-A blocks in the generator (1,897,987 parameters) and
           Inception-ResNet-v2's mixed_5b as the perceptual features, in place of VGG19's conv5_4.
  t291     the GAN stage on VDSR's 291 pictures, from a run of configs/srresnet.py:t291:
           --config.data.path=FOLDER --config.train.init_from.g=runs/srresnet-t291
  t291_hour  the same from configs/srresnet.py:t291_hour, on 2 CPU cores.
  celeba   faces: Gaussian blur, then resize; 64x64 input to 256x256; D with dropout;
           BCE + VGG + MSE summed.
"""

from jaxgen import config as configs
from jaxgen.tasks.sr.config import SRGAN_PERCEPTUAL, sr_config


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = sr_config(
        "srgan",
        generator={
            "form": "srresnet",  # srresnet | keras | inception | published | msrresnet
            "features": 32,
            "blocks": 8,
            "edge_kernel": 3,
            "norm": False,
            "skip": True,
            "tail": "stages",  # or direct
            "output": "linear",
        },
        discriminator={
            "features": 24,
            "hidden": 128,
            "head": "pool",
            "dropout": 0.0,
            "momentum": 0.9,
            "epsilon": 1e-5,
        },
    )
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    config.data.hr_size = 32
    config.model.generator.update(features=8, blocks=1)
    config.model.discriminator.update(features=4, hidden=8)
    config.model.pretrain_steps = 4
    config.model.loss.update(perceptual_width=0.125, perceptual_layers=(("conv1_2", 1.0),))
    config.optimizer.pretrain.warmup = 0
    configs.train_briefly(config, steps=8)
    config.eval.update(images=1, crop=64)


def _paper(config):
    config.data.update(source="folder", hr_size=96, workers=8, rescale=(1.0, 1.0))
    config.model.generator.update(
        features=64, blocks=16, edge_kernel=9, norm=True, skip=False, tail="stages"
    )
    config.model.discriminator.update(features=64, hidden=1024, head="dense")
    config.model.pretrain_steps = 1_000_000
    config.model.loss.update(
        SRGAN_PERCEPTUAL,
        pixel=0.0,
        pixel_kind="mse",
        perceptual_scale=1 / 12.75,
        adversarial=1e-3,
        label_smoothing=0.0,
    )
    config.optimizer.pretrain = configs.optimizer(1e-4)
    for phase in ("g", "d"):
        config.optimizer[phase] = configs.optimizer(
            1e-4, schedule="multistep", milestones=(100_000,), gamma=0.1
        )
    config.model.ema = 0.999
    config.train.update(
        steps=1_200_000,
        batch_size=16,
        log_every=100,
        eval_every=5000,
        checkpoint_every=5000,
        keep_every=100_000,
    )
    config.eval.images = 20


def _seed004(config):
    config.data.update(source="df2k", hr_size=224, crop="resize", workers=8)
    with config.unlocked():
        config.model.generator = {
            "form": "keras", "features": 64, "blocks": 16, "edge_kernel": 9, "output": "tanh",
        }  # fmt: skip
    config.model.discriminator.update(
        features=64, hidden=1024, head="dense", momentum=0.5, epsilon=1e-3
    )
    config.model.pretrain_steps = 0
    config.model.loss.update(
        SRGAN_PERCEPTUAL,
        pixel=0.0,
        pixel_kind="mse",
        perceptual_input="raw",
        adversarial=1e-3,
        label_smoothing=0.2,
        label_smoothing_kind="uniform",
    )
    config.optimizer.g = configs.optimizer(1e-4)
    config.optimizer.d = configs.optimizer(1e-4)
    # 1000 epochs of 3450 photos
    config.train.update(
        steps=431_000, batch_size=8, log_every=100, eval_every=5000, checkpoint_every=5000
    )
    config.eval.update(images=20, crop=224)


def _inception(config):
    _seed004(config)
    config.model.generator.form = "inception"
    # Other layers to compare: block35_5 (the middle of ten), block35_10, mixed_6a. Back to VGG19:
    # perceptual_net="vgg19", perceptual_weights="file:vgg19.pth",
    # perceptual_layers=(("conv5_4", 1.0),).
    config.model.loss.update(
        perceptual_net="inception_resnet_v2",
        perceptual_weights="file:inception_resnet_v2.safetensors",
        perceptual_layers=(("mixed_5b", 1.0),),
    )


def _t291(config):
    # 72: the largest crop that fits into T91's smallest picture (78 pixels).
    config.data.update(source="folder", hr_size=72, rescale=(0.6, 1.0))
    config.model.generator.update(features=64, blocks=16)
    config.model.discriminator.update(features=48, hidden=256)
    config.model.pretrain_steps = 0
    config.model.ema = 0.999
    config.optimizer.g = configs.optimizer(1e-4)
    config.optimizer.d = configs.optimizer(1e-4)
    config.train.update(
        steps=50_000, batch_size=16, log_every=100, eval_every=5000, checkpoint_every=5000
    )


def _t291_hour(config):
    _t291(config)
    config.model.generator.update(features=48, blocks=10, tail="direct")
    config.model.discriminator.update(features=24, hidden=128)
    config.model.ema = 0.99
    config.train.update(steps=1000, eval_every=500, checkpoint_every=500)


def _celeba(config):
    _paper(config)
    config.data.update(
        source="tfds", name="celeb_a", hr_size=256, crop="resize", degradation="blur"
    )
    config.model.discriminator.dropout = 0.25
    config.model.pretrain_steps = 0
    config.model.loss.update(pixel=1.0, perceptual=1.0, adversarial=1.0)
    config.optimizer.g = configs.optimizer(1e-4)
    config.optimizer.d = configs.optimizer(1e-4)
    config.train.steps = 250_000


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "paper": _paper,
    "seed004": _seed004,
    "inception": _inception,
    "t291": _t291,
    "t291_hour": _t291_hour,
    "celeba": _celeba,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "6 minutes of 2 CPU cores",
    "tiny": "seconds",
    "paper": "a GPU",
    "seed004": "a GPU with 16 GB",
    "inception": "a GPU with 16 GB",
    "t291": "a GPU",
    "t291_hour": "10 minutes of 2 CPU cores",
    "celeba": "a GPU",
}
