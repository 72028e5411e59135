"""A prior: a transformer that writes the codes of a trained first stage (Esser et al., CVPR 2021).

    python -m jaxgen.main --config=configs/prior.py --config.parts.first_stage=runs/vqgan

trains a small one on captioned shapes at 32 px, within 10 minutes on 2 CPU cores, after the first
stage it is made of: `python -m jaxgen.main --config=configs/vqgan.py`. Then

    jaxgen generate "a large red circle" --model runs/prior -n 8 --seed 1
    jaxgen complete photo.png --keep 0.5 --model runs/prior -o out.png

The caption's words stand in front of the codes. Watch "g/nats", the loss in nats per code, and
caption accuracy ("whole", of pairs of colour and shape that were trained on; "held_out_whole" of
others). `model.sampling` has the settings that pictures are drawn with where nobody says others.

Variants (`--config=configs/prior.py:NAME`):
  tiny       seconds; what the tests run, with configs/vqgan.py:tiny.
  uncond     no text: any scene. Watch "valid", the share of pictures that could be of the data. Of
             your own pictures, without captions: --config.data.source=plain
             --config.data.path=FOLDER, as in the first stage.
  class      classes in place of texts, the 200 birds of CUB: --config.data.captions=FOLDER, and a
             first stage of such pictures.
  maskgit    MaskGIT (Chang et al., CVPR 2022): all codes in 12 steps, the surest first.
  image      the codes of another first stage in front (--config.parts.condition), such as a coarser
             one or one of gray pictures.
  shapes64   one or two objects, the two with a relation between them, at 64 px;
             configs/vqgan.py:shapes64 and its codes first. Watch "whole_2".
  emoji      emoji with their names at 32 px; configs/vqgan.py:emoji first.
  drin       the published size of images from depth (ImageNet, RIN classes): 304,932,864
             parameters, 256 codes in front of 256. parts.first_stage and parts.condition have 1024
             codes and pictures of 256 px. A GPU with 24 GB.
  cin        the published size of ImageNet's classes: 1,410,640,896 parameters, shared by
             mesh.fsdp over the devices; parts.first_stage is configs/vqgan.py:f16.
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.captioned import section
from jaxgen.tasks.prior.config import EVAL, MODEL


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("prior")
    config.data = section.defaults()
    config.data.length = 12
    config.model = keys.defaults(MODEL)
    config.model.drop_condition = 0.1
    config.model.transformer = {"layers": 4, "heads": 4, "width": 128, "dropout": 0.0}
    # A run, an exported folder or a bundled model. Without a text encoder the transformer reads the
    # words itself.
    config.parts = {"first_stage": "", "condition": "", "text": ""}
    config.optimizer = {
        "g": configs.optimizer(
            1e-3, name="adamw", b2=0.95, weight_decay=0.01, decays="kernels", clip_norm=1.0,
            schedule="cosine", final=0.05, warmup=50,
        )
    }  # fmt: skip
    config.train.update(
        steps=3200, batch_size=32, log_every=100, eval_every=800, checkpoint_every=400
    )
    config.train.init_from = {"g": ""}
    config.eval = keys.defaults(EVAL)
    VARIANTS[variant](config)
    return config


def _default(config):
    config.model.sampling.temperature = 0.4  # at 1 one caption in three is drawn wrong


def _tiny(config):
    config.data.update(size=16, count=64)
    config.model.transformer.update(layers=2, heads=2, width=16)
    config.model.ema = 0.9
    configs.train_briefly(config, steps=4)
    config.optimizer.g.warmup = 0
    config.eval.update(captions=4, pictures=2, noises=2)


def _uncond(config):
    config.model.update(condition="none", drop_condition=0.0)


def _class(config):
    config.data.update(source="cub", size=128, crop="bbox", flip=True)
    config.model.update(condition="class", classes=201)
    config.model.transformer.update(layers=12, heads=8, width=512, dropout=0.1)
    config.train.update(steps=100_000, eval_every=5000, checkpoint_every=5000)


def _maskgit(config):
    config.model.form = "maskgit"


def _image(config):
    config.model.condition = "image"


def _shapes64(config):
    _default(config)
    config.data.update(size=64, objects=(1, 2), relations=6, length=24, count=50_000)
    config.model.transformer.update(width=160, heads=5)
    config.model.sampling.update(temperature=0.3, guidance=1.5)
    config.train.update(steps=6000, eval_every=1500, checkpoint_every=500)


def _emoji(config):
    # Half of the words stand in one name alone: pieces of them are shared.
    config.data.update(source="emoji", tokenizer="bpe", length=16)
    config.model.transformer.update(width=192, heads=6, dropout=0.1)
    config.optimizer.g.update(lr=2e-3, warmup=200)
    config.train.update(steps=5000, eval_every=1000, checkpoint_every=500)


def _published(config, layers, heads, width, batch):
    config.data.update(source="folder", size=256, crop="random")
    config.model.update(shared_ids=True, drop_condition=0.0, ema=0.0)
    config.model.transformer = {
        "layers": layers, "heads": heads, "width": width, "dropout": 0.0, "remat": True,
    }  # fmt: skip
    config.optimizer.g.update(
        lr=4.5e-6 * batch, clip_norm=0.0, schedule="constant", final=0.0, warmup=0
    )
    config.train.update(steps=1_000_000, batch_size=batch, eval_every=10_000, checkpoint_every=5000)


def _drin(config):
    _published(config, 24, 16, 1024, 16)
    config.model.update(condition="image", length=512)
    config.model.sampling.top_k = 100


def _cin(config):
    _published(config, 48, 24, 1536, 64)
    config.model.update(condition="class", classes=1000)
    config.model.sampling.update(top_k=600, top_p=0.92)
    config.mesh.fsdp = -1
    config.mesh.data = 1


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    "uncond": _uncond,
    "class": _class,
    "maskgit": _maskgit,
    "image": _image,
    "shapes64": _shapes64,
    "emoji": _emoji,
    "drin": _drin,
    "cin": _cin,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "6 minutes of 2 CPU cores",
    "tiny": "seconds",
    "uncond": "6 minutes of 2 CPU cores",
    "class": "a GPU",
    "maskgit": "6 minutes of 2 CPU cores",
    "image": "10 minutes of 2 CPU cores",
    "shapes64": "an hour of 2 CPU cores",
    "emoji": "an hour of 2 CPU cores",
    "drin": "a GPU with 24 GB",
    "cin": "several GPUs or TPUs",
}
