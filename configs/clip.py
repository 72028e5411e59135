"""CLIP: pictures and texts as features of one space (Radford et al., ICML 2021).

    python -m jaxgen.main --config=configs/clip.py

trains a small one on captioned shapes at 32 px, within 10 minutes on 2 CPU cores. Then

    jaxgen embed photo.png --model runs/clip -o features.npz

Watch "attributes": how often the true caption of a scene is nearer to it than each that names
another shape, colour, size or place ("held_out_attributes": of pairs of colour and shape that were
never trained on); "texts_at_1" is recall among the validation captions.

Variants (`--config=configs/clip.py:NAME`):
  tiny       seconds; what the tests run.
  emoji      emoji with their names at 32 px.
  folder     pictures of your own with their captions at 64 px: --config.data.path=FOLDER.
  vit_b32    the published towers of ViT-B/32 at 224 px over captions of your own, with a BPE of
             49,000 ids made of them: a GPU for each 256 pairs of the batch.
  rn50       the same with the published ResNet-50 tower.
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section
from jaxgen.tasks.clip.config import EVAL, MODEL


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("clip")
    config.data = section.defaults()
    config.data.length = 12
    config.model = keys.defaults(MODEL)
    config.model.image = {"form": "vit", "patch": 4, "width": 64, "layers": 3, "heads": 2}
    config.optimizer = {
        "g": configs.optimizer(
            1e-3, name="adamw", b2=0.98, eps=1e-6, weight_decay=0.05, decays="kernels",
            clip_norm=1.0, schedule="cosine", final=0.02, warmup=100,
        )
    }  # fmt: skip
    config.train.update(
        steps=3000, batch_size=64, log_every=100, eval_every=500, checkpoint_every=500
    )
    config.train.init_from = {"g": ""}
    config.eval = keys.defaults(EVAL)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    config.data.update(size=16, count=64)
    config.model.update(embed=8, ema=0.9)
    config.model.image.update(width=8, layers=1, heads=2)
    config.model.text.update(width=8, layers=1, heads=2)
    configs.train_briefly(config, steps=4)
    config.optimizer.g.warmup = 0
    config.eval.update(captions=4, pictures=2)


def _emoji(config):
    # Half of the words stand in one name alone: pieces of them are shared.
    config.data.update(source="emoji", tokenizer="bpe", length=16, crop="random", enlarge=1.125)
    config.model.noise = 0.1  # as drawn pictures have some
    config.model.image.update(width=128, layers=4, heads=4)
    config.model.text.update(width=128, heads=4)
    config.train.steps = 1500


def _folder(config):
    config.data.update(source="folder", size=64, crop="random", enlarge=1.25, length=32)
    config.model.embed = 256
    config.model.image.update(patch=8, width=256, layers=6, heads=4)
    config.model.text.update(width=256, layers=4, heads=4)
    config.train.update(steps=50_000, batch_size=256)


def _vit_b32(config):
    config.data.update(
        source="folder", size=224, crop="random", enlarge=1.15, tokenizer="bpe",
        vocabulary_size=49_000, length=76, workers=8,
    )  # fmt: skip
    config.model.embed = 512
    config.model.image.update(patch=32, width=768, layers=12, heads=12)
    config.model.text.update(width=512, layers=12, heads=8)
    config.optimizer.g.update(lr=5e-4, weight_decay=0.2, warmup=2000)
    config.train.update(steps=400_000, batch_size=4096, eval_every=5000, checkpoint_every=5000)


def _rn50(config):
    _vit_b32(config)
    config.model.embed = 1024
    config.model.image = {
        "form": "resnet", "width": 64, "layers": (3, 4, 6, 3), "heads": 32,
    }  # fmt: skip


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "emoji": _emoji,
    "folder": _folder,
    "vit_b32": _vit_b32,
    "rn50": _rn50,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "3 minutes of 2 CPU cores",
    "tiny": "seconds",
    "emoji": "10 minutes of 2 CPU cores",
    "folder": "a GPU",
    "vit_b32": "16 GPUs",
    "rn50": "16 GPUs",
}
