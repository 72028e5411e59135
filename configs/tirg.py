"""Composed retrieval: a picture and words that change it find the picture meant (TIRG, CVPR 2019).

    python -m jaxgen.main --config=configs/tirg.py

trains a small one on CSS's scenes at 64 px, within 10 minutes on 2 CPU cores. Then

    jaxgen index FOLDER -o INDEX --model runs/tirg
    jaxgen search INDEX --image q.png --text "make red cube blue"

Watch "recall_at_1" beside "ceiling_at_1", what an oracle reaches (a text such as "add object" has
many right answers), and "held_out_at_1": targets that show pairs of colour and shape which were
never trained on.

Variants (`--config=configs/tirg.py:NAME`):
  tiny         seconds; what the tests run.
  image        the default with another composition: the picture alone.
  text         the words alone.
  concat       both side by side, through two layers.
  tirg_lastconv  TIRG over the last layer's map, before it is pooled.
  film         FiLM.
  mrn          a multimodal residual network.
  relationship  a relation network.
  shaded       pictures shaded and seen from above, each from a camera of its own.
  2d_to_shaded the same, asked for with flat drawings.
  combiner     CLIP4Cir's Combiner over a CLIP of yours that stays as it is:
               --config.parts.clip=runs/clip --config.data.size=ITS_SIZE.
  css3d        the published set at its own size: --config.data.path=FOLDER with the .npy file and
               images/. ResNet-18, soft triplets, SGD: 15,928,389 parameters and its words'. With
               ImageNet's weights: --config.model.image_weights=resnet18.pth. A GPU.
  fashion200k  the same networks at 224 px on Fashion200k: --config.data.path=FOLDER.
  mit_states   so on MIT-States, whose test nouns are never trained on.
  fashion_iq   so on FashionIQ.
  cirr         so on CIRR.
"""

from jaxgen import config as configs
from jaxgen import keys
from jaxgen.data.triplets import section
from jaxgen.tasks.tirg.config import EVAL, MODEL, small, tiny


def get_config(arg=""):
    variant = configs.variant(arg, VARIANTS)
    config = configs.base("tirg")
    config.data = section.defaults()
    config.data.update(length=8, per_source=4)
    config.model = keys.defaults(MODEL)
    small(config.model)
    config.parts = {"clip": ""}  # with model.image.form=clip: whose features are composed
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
    tiny(config)
    config.model.update(embed=8, ema=0.9)
    config.model.text.update(vector=4, hidden=8)
    config.model.image.channels = (4, 8)
    config.optimizer.g.update(warmup=0, clip_norm=1.0)
    config.eval.update(pictures=2)


def _composition(form):
    def change(config):
        config.model.compose = {"form": form}

    return change


def _shaded(config):
    config.data.render = "shaded"
    config.data.workers = 2
    config.train.steps = 6000


def _2d_to_shaded(config):
    _shaded(config)
    config.data.render = "2d_to_shaded"


def _published(config):
    """The paper's: ResNet-18, LSTM of 512, SGD with the trunk at a tenth."""
    config.model.embed = 512
    config.model.text.update(vector=512, hidden=512)
    config.model.image = {"form": "resnet", "arch": "resnet18"}
    config.data.update(size=224, per_source=1, length=32, workers=8)
    config.optimizer.g = configs.optimizer(
        1e-2, name="sgd", weight_decay=1e-6, schedule="multistep", milestones=(50_000,), gamma=0.1,
        factors=(("image/trunk", 0.1),),
    )  # fmt: skip
    config.train.update(
        steps=160_000, batch_size=32, log_every=500, eval_every=10_000, checkpoint_every=5000
    )
    config.eval.queries = 0


def _combiner(config):
    config.model.image = {"form": "clip", "pad": 0.0}
    config.model.compose = {"form": "combiner", "projection": 256, "hidden": 512}
    config.data.size = 32
    config.optimizer.g.weight_decay = 0.05


def _css3d(config):
    _published(config)
    config.data.update(render="files", size=120, per_source=2)
    config.model.loss.kind = "soft_triplet"
    config.optimizer.g.update(schedule="constant", factors=())
    config.train.batch_size = 16


def _fashion200k(config):
    _published(config)
    config.data.source = "fashion200k"


def _mit_states(config):
    _published(config)
    config.data.update(source="mit_states", per_source=2)
    config.model.loss.kind = "soft_triplet"
    config.optimizer.g.weight_decay = 5e-5
    config.train.batch_size = 16


def _fashion_iq(config):
    _published(config)
    config.data.update(source="fashion_iq", length=48)
    config.eval.ks = (10, 50)


def _cirr(config):
    _published(config)
    config.data.update(source="cirr", length=48)


VARIANTS = {
    "": _default,
    "tiny": _tiny,
    **{
        form: _composition(form)
        for form in ("image", "text", "concat", "tirg_lastconv", "film", "mrn", "relationship")
    },
    "shaded": _shaded,
    "2d_to_shaded": _2d_to_shaded,
    "combiner": _combiner,
    "css3d": _css3d,
    "fashion200k": _fashion200k,
    "mit_states": _mit_states,
    "fashion_iq": _fashion_iq,
    "cirr": _cirr,
}
# What a run of each takes; `jaxgen configs` shows it.
COSTS = {
    "": "10 minutes of 2 CPU cores",
    "tiny": "seconds",
    "image": "10 minutes of 2 CPU cores",
    "text": "10 minutes of 2 CPU cores",
    "concat": "10 minutes of 2 CPU cores",
    "tirg_lastconv": "10 minutes of 2 CPU cores",
    "film": "10 minutes of 2 CPU cores",
    "mrn": "10 minutes of 2 CPU cores",
    "relationship": "15 minutes of 2 CPU cores",
    "shaded": "10 minutes of 2 CPU cores",
    "2d_to_shaded": "10 minutes of 2 CPU cores",
    "combiner": "10 minutes of 2 CPU cores",
    "css3d": "a GPU",
    "fashion200k": "a GPU",
    "mit_states": "a GPU",
    "fashion_iq": "a GPU",
    "cirr": "a GPU",
}
