"""Draws what a picture and words ask for, from the composed feature of a retrieval model (TIRG).

    python -m jaxgen.main --config=configs/tirg_decoder.py --config.parts.retrieval=runs/tirg

trains a small one on CSS's scenes at 64 px, after the retrieval model it is made of: `python -m
jaxgen.main --config=configs/tirg.py`. Then

    jaxgen edit q.png "make bottom-right gray object purple" --model runs/tirg_decoder
    jaxgen search INDEX --image q.png --text "make red cube blue" --draw runs/tirg_decoder

Watch "edited", the share of test queries whose changed object is drawn as the words say, and
"objects", the share of all objects that are right in cell, colour, shape and size.

Variants (`--config=configs/tirg_decoder.py:NAME`):
  tiny     seconds; what the tests run, with configs/tirg.py:tiny.
  joint    without parts.retrieval: decoder and retrieval model are trained together, the latter
           from the start, or from a run by --config.train.init_from.g=runs/tirg.
  alone    draws of the composed feature alone: the source's pixels and map stay unseen.
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.triplets import section
from jaxgen.tasks.tirg import config as tirg
from jaxgen.tasks.tirg.drawing import EVAL, JOINT, MODEL


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("tirg_decoder")
    config.data = section.defaults()
    # Drawn in 15 seconds; the retrieval model's 16,000 changes the prior would learn by heart.
    config.data.update(length=8, per_source=4, train_scenes=10_000)
    config.model = keys.defaults(MODEL)
    config.model.decoder = {"channels": (96, 64), "keep": True}
    config.model.prior = {"width": 256, "blocks": 3}
    config.model.ema = 0.995
    config.parts = {"retrieval": ""}
    config.optimizer = {
        "decoder": configs.optimizer(
            2e-3, name="adamw", b2=0.99, weight_decay=1e-2, decays="kernels", clip_norm=1.0,
            schedule="cosine", final=0.01, warmup=50,
        )
    }  # fmt: skip
    config.train.update(
        steps=6000, batch_size=32, log_every=100, eval_every=0, checkpoint_every=500
    )
    config.train.init_from = {"g": ""}
    config.eval = keys.defaults(EVAL)
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    tirg.tiny(config)
    config.model.decoder.update(channels=(8,), groups=2)
    config.model.prior.update(width=8, blocks=1)
    config.model.update(ema=0.9)
    config.model.sampling.steps = 2
    config.optimizer.decoder.warmup = 0
    config.eval.update(pictures=2, queries=8)


def _joint(config):
    config.model.update(keys.defaults(tirg.MODEL))
    config.model.update(keys.defaults(JOINT))
    tirg.small(config.model)


def _alone(config):
    config.model.decoder.keep = False


VARIANTS = {"": _default, "tiny": _tiny, "joint": _joint, "alone": _alone}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "45 minutes of one CPU core",
    "tiny": "seconds",
    "joint": "2 CPU cores; not run to its end",
    "alone": "2 CPU cores; not run to its end",
}
