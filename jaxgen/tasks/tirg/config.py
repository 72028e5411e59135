"""The keys of a composed retrieval's config. Values only: they load without JAX."""

from __future__ import annotations

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.keys import WIDEST, Key, Table, whole

TEXT: Table = {
    "vector": whole(512, "size of the word vectors", most=WIDEST),
    "hidden": whole(512, "of the LSTM's state", most=WIDEST),
    "dropout": Key(0.1, "before its last layer, in training", least=0, below=1),
}
LOSS: Table = {
    "kind": Key(
        "batch_classification",
        "each query's target told from the batch's others; or three random negatives each",
        choices=("batch_classification", "soft_triplet"),
    ),
    "half_gradient": Key(
        False, "soft_triplet: gradients of half the size, as the published code's"
    ),
}
MODEL: Table = {
    "embed": whole(512, "of the common features", most=WIDEST),
    "image_weights": Key(
        "", "a ResNet's weights file, torchvision's or converted, that its trunk begins with"
    ),
    "text": TEXT,
    "loss": LOSS,
    "ema": Key(0.0, "decay of the average of all weights; 0: none", least=0, below=1),
}
EVAL: Table = {
    "queries": whole(0, "test queries, evenly chosen; 0: all", 0),
    "pictures": whole(8, "rows of the sample grid"),
    "ks": Key((1, 5, 10, 50), "recall at each of them", each=whole(1), rising=True),
}


def small(model: ConfigDict) -> None:
    """A retrieval model for CSS's scenes at 64 px, in `config.model`."""
    model.embed = 256
    model.text.update(vector=64, hidden=256)
    model.image = {"form": "grid", "channels": (16, 32, 64, 64)}
    model.compose = {"form": "tirg"}


def tiny(config: ConfigDict) -> None:
    """Data and training of what the tests run; the widths are the family's."""
    config.data.update(
        size=16, scenes=6, train_scenes=0, changes=4, objects=(1, 2), per_source=2, length=6
    )
    configs.train_briefly(config, steps=4)
