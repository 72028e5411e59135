"""Prompt-guided SRGAN: the text tells what the low-resolution picture cannot.

    python -m jaxgen.main --config=configs/prompt_srgan.py

trains on procedural scenes whose low-resolution pictures look alike whatever fine texture their
patches have; only the caption says which ("dots on the left, checks on the right"). No download; a
few minutes on 2 CPU cores. Then

    jaxgen upscale low.png -o high.png --model runs/prompt_srgan \\
      --prompt "dots on the left, checks on the right" --show-attention

Variants (`--config=configs/prompt_srgan.py:NAME`):
  tiny   seconds; what the tests run.
  film   the default with FiLM from the whole prompt instead of attention to its words.
  paper  the paper's SRResNet (64 channels, 16 blocks) with attention after blocks 4, 8, 12 and 16
         to 512-wide text features, 2,141,255 parameters, and SRGAN's discriminator, on larger
         scenes: for a GPU. To start from a trained SRResNet of these sizes:
         --config.model.trunk=FOLDER.

Expected: mean Y-PSNR on unseen scenes 37.0 dB with the right prompt, 20.5 with the empty one and
17.5 with a wrong one (metrics psnr_*; gap_empty and gap_shuffled must be 8 dB or more).
"""

from jaxgen import config as configs
from jaxgen.data.scenes import examples as scenes
from jaxgen.tasks.sr.config import sr_loss


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("prompt_srgan")
    config.data = scenes.defaults()
    config.model = {
        "generator": {
            "features": 24,
            "blocks": 5,
            "norm": False,
            "edge_kernel": 3,
            "skip": True,
            "tail": "direct",
            "guidance": "attention",  # or film
            "guided": (3, 5),  # blocks after which the prompt comes in
            "heads": 4,
            "head_size": 16,
        },
        "text": {"width": 64},
        "discriminator": {"features": 16, "hidden": 64},
        "trunk": "",  # a trained SRResNet to start from: a run, an exported folder, a weights file
        "mismatch": 0.5,  # weight of real pictures with wrong prompts in D's loss
        "pretrain_steps": 2500,  # then the GAN; 0: GAN at once; -1: no GAN
        "ema": 0.99,
        "loss": sr_loss(
            pixel_kind="mse",
            pixel=10.0,
            perceptual=0.0,
            perceptual_weights="none",
            adversarial=1e-3,
        ),
    }
    config.optimizer = {
        "pretrain": configs.optimizer(
            3e-3, schedule="cosine", warmup=50, final=0.02, clip_norm=1.0
        ),
        "g": configs.optimizer(1e-4),
        "d": configs.optimizer(2e-4),
    }
    config.train.steps = 2700
    config.train.batch_size = 16
    config.train.log_every = 100
    config.train.eval_every = 1250
    config.train.checkpoint_every = 500
    config.eval = {"images": 48}  # validation scenes
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _film(config):
    config.model.generator.guidance = "film"


def _tiny(config):
    config.data.update(hr_size=48, count=16)
    config.model.generator.update(features=8, blocks=2, guided=(1, 2), heads=2, head_size=4)
    config.model.text.update(width=8)
    config.model.discriminator.update(features=4, hidden=8)
    config.model.pretrain_steps = 4
    config.optimizer.pretrain.warmup = 0
    configs.train_briefly(config, steps=8)
    config.eval.images = 2


def _paper(config):
    config.data.update(hr_size=128, count=65536, workers=8)
    config.model.generator.update(
        features=64,
        blocks=16,
        norm=True,
        edge_kernel=9,
        skip=False,
        tail="stages",
        guided=(4, 8, 12, 16),
        head_size=32,
    )
    config.model.text.update(width=512)
    config.model.discriminator.update(features=64, hidden=1024)
    config.model.pretrain_steps = 100_000
    config.model.ema = 0.999
    config.optimizer.pretrain.update(lr=2e-4, warmup=1000)
    config.train.update(steps=200_000, eval_every=5000, checkpoint_every=5000)


VARIANTS = {"": _default, "tiny": _tiny, "film": _film, "paper": _paper}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "5 minutes of 2 CPU cores",
    "tiny": "seconds",
    "film": "5 minutes of 2 CPU cores",
    "paper": "a GPU",
}
