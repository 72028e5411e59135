"""Composed retrieval: a picture and words that change it find the picture meant (TIRG, CVPR 2019).

    python -m jaxgen.main --config=configs/tirg.py

trains a small one on CSS's scenes at 64 px, within 10 minutes on 2 CPU cores. Then

    jaxgen index FOLDER -o INDEX --model runs/tirg
    jaxgen search INDEX --image q.png --text "make red cube blue"

Watch "recall_at_1" beside "ceiling_at_1", what an oracle reaches (a text such as "add object" has
many right answers), and "held_out_at_1": targets that show pairs of colour and shape which were
never trained on.
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.triplets import section
from jaxgen.tasks.tirg.config import EVAL, MODEL


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("tirg")
    config.data = section.defaults()
    config.data.update(length=8, per_source=4)
    config.model = keys.defaults(MODEL)
    config.model.embed = 256
    config.model.text.update(vector=64, hidden=256)
    config.model.image = {"form": "grid", "channels": (16, 32, 64, 64)}
    config.model.compose = {"form": "tirg"}
    config.optimizer = {
        "g": configs.optimizer(
            1e-3, name="adamw", weight_decay=1e-2, decays="kernels", schedule="cosine",
            final=0.01, warmup=100,
        )
    }  # fmt: skip
    config.train.update(
        steps=1500, batch_size=32, log_every=100, eval_every=500, checkpoint_every=500
    )
    config.train.init_from = {"g": ""}
    config.eval = keys.defaults(EVAL)
    config.eval.queries = 4000
    VARIANTS[variant](config)
    return config


def _default(config):
    pass


def _tiny(config):
    config.data.update(size=16, scenes=6, changes=4, objects=(1, 2), per_source=2, length=6)
    config.model.update(embed=8, ema=0.9)
    config.model.text.update(vector=4, hidden=8)
    config.model.image.channels = (4, 8)
    config.train.update(steps=4, batch_size=8, log_every=2, eval_every=0, checkpoint_every=2)
    config.train.tensorboard = False
    config.optimizer.g.warmup = 0
    config.eval.update(pictures=2)


VARIANTS = {"": _default, "tiny": _tiny}
