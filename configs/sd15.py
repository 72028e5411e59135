"""Fine-tuning Stable Diffusion 1.x from converted weights (Rombach et al., CVPR 2022).

    jaxgen convert v1-5-pruned-emaonly.safetensors -o models/sd15
    python -m jaxgen.main --config=configs/sd15.py --config.train.init_from.g=models/sd15 \
        --config.data.path=PICTURES

trains all of the UNet on a folder of captioned pictures at 512 px, noise as the target on the
published schedule. Autoencoder and text tower are those that the converted model brought; the run
keeps copies of both. Latents made once spare the autoencoder in each step; pictures are then cut at
their centre and not mirrored:

    jaxgen prepare latents --config configs/sd15.py:latents --set data.path=PICTURES \
        --model models/sd15 -o pictures.latents
    python -m jaxgen.main --config=configs/sd15.py:latents --config.train.init_from.g=models/sd15 \
        --config.data.path=PICTURES --config.model.latents=pictures.latents

Pictures of mixed shapes need not be cut square: with --config.data.bucket_ratio=2 each batch is of
one shape of the same area (not with latents made once).

Where only a little is learned, beside a UNet that stays as it is (`parts.g`):

    python -m jaxgen.main --config=configs/sd15.py:lora --config.parts.g=models/sd15 \
        --config.data.path=PICTURES
    jaxgen generate "a watercolour of a fox" --model runs/sd15-lora
    jaxgen convert runs/sd15-lora --to-torch fox.safetensors --layout "kohya LoRA"

Variants (`--config=configs/sd15.py:NAME`):
  latents     all of the UNet, from latents made beforehand.
  lora        low-rank changes of the attention (LoRA): model.change.rank, alpha, layers; of the
              text tower, too: text_rank.
  dreambooth  one thing by a few pictures, beside pictures of its class:
              --config.data.texts='("a photo of sks dog",)' --config.model.prior.pictures=FOLDER
              --config.model.prior.texts='("a photo of a dog",)'; make the folder before, such as by
              jaxgen generate "a photo of a dog" -n 200 --model models/sd15 -o FOLDER. With
              lora as well: the variant lora with the same keys.
  inversion   a new word for a thing or a style (textual inversion):
              --config.model.change.words='("<cat-toy>",)' --config.model.change.begin='("toy",)'.
              Captions say {} for the word.
  tiny        a net of a few thousand numbers, for tests.
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section
from jaxgen.tasks.ldm.config import CHANGE, EVAL, MODEL, PRIOR


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("ldm")
    config.data = section.defaults()
    config.data.update(
        source="folder", size=512, crop="random", enlarge=1.1, flip=True, tokenizer="clip"
    )
    config.model = keys.defaults(MODEL)
    config.model.denoiser = {
        "form": "unet",
        "channels": (320, 640, 1280, 1280),  # of the levels
        "blocks": 2,
        "attention": (0, 1, 2),  # levels with attention, beside the middle
        "middle_attention": True,
        "depth": 1,
        "heads": 8,
        "head_width": 0,
        "linear": False,
        "groups": 32,
        "patch": 1,
        "dropout": 0.0,
        "remat": True,
    }
    config.model.update(target="eps", guided=True, ema=0.9999)
    config.model.schedule.kind = "scaled-linear"
    config.model.sampling.update(sampler="dpmpp-2m", steps=25, guidance=7.5)
    config.model.change = keys.defaults(CHANGE)
    config.model.prior = keys.defaults(PRIOR)
    config.optimizer = {
        "g": configs.optimizer(
            1e-5, name="adamw", weight_decay=0.01, decays="kernels", clip_norm=1.0, warmup=500
        )
    }
    config.train.update(
        steps=15_000, batch_size=32, log_every=50, eval_every=2500, checkpoint_every=1000
    )
    config.train.dtype = "bfloat16"
    config.eval = keys.defaults(EVAL)
    config.eval.update(captions=32, pictures=4, noises=2)
    config.train.init_from = {"g": ""}
    config.parts = {"g": ""}
    VARIANTS[variant](config)
    # A converted model brings its autoencoder and text tower along, unless others are named.
    whole = config.train.init_from if variant in TRAINS_ALL else config.parts
    config.parts.first_stage = whole.get_oneway_ref("g")
    config.parts.text = whole.get_oneway_ref("g")
    return config


def _default(config):
    pass


def _latents(config):
    config.data.update(crop="center", enlarge=1.0, flip=False)


def _few(config):
    """A few pictures, none of which is left for evaluation."""
    config.data.update(crop="center", enlarge=1.0, flip=False, holdout=0.0)
    config.model.update(drop_condition=0.0, ema=0.0)
    config.train.update(eval_every=-1, batch_size=4, checkpoint_every=500)
    config.optimizer.g.update(weight_decay=0.0, warmup=0)


def _lora(config):
    _few(config)
    config.model.change.update(rank=8, alpha=8.0)
    config.optimizer.g.update(lr=1e-4, weight_decay=0.01)
    config.train.steps = 2000


def _dreambooth(config):
    _few(config)
    config.optimizer.g.lr = 2e-6
    config.train.steps = 800
    config.train.batch_size = 1


def _inversion(config):
    _few(config)
    config.data.texts = TEMPLATES
    config.model.change.update(words=("<thing>",), begin=("thing",))
    config.optimizer.g.lr = 5e-3
    config.train.steps = 3000


def _tiny(config):
    _lora(config)
    config.data.size = 32
    config.data.texts = ("a picture",)
    config.model.denoiser.update(channels=(8,), blocks=1, attention=(0,), heads=2, groups=4)
    config.model.denoiser.update(middle_attention=False, remat=False)
    config.model.change.rank = 2
    config.model.sampling.steps = 3
    configs.train_briefly(config, steps=4)
    config.train.update(dtype="float32", eval_every=-1)


# What a new word is learned in, after those of Gal et al. (2022).
TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a good photo of a {}",
)
VARIANTS = {
    "": _default,
    "latents": _latents,
    "lora": _lora,
    "dreambooth": _dreambooth,
    "inversion": _inversion,
    "tiny": _tiny,
}
TRAINS_ALL = ("", "latents", "dreambooth")
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "a GPU, hours",
    "latents": "a GPU, hours",
    "lora": "a GPU, an hour",
    "dreambooth": "a GPU, half an hour",
    "inversion": "a GPU, an hour",
    "tiny": "seconds",
}
