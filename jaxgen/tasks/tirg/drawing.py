"""The keys of what draws composed features. Values only: they load without JAX."""

from __future__ import annotations

from jaxgen.keys import Key, Table, whole

MODEL: Table = {
    "changed": Key(
        4.0, "weight of errors where the target differs from the source", least=1, most=1e6
    ),
    "kl": Key(
        30.0, "weight of a nat of noise beside a picture's summed squares", least=0, most=1e6
    ),
    "kl_first": Key(300.0, "that weight at the first step", least=0, most=1e6),
    "kl_steps": whole(1600, "steps over which it falls; 0: none", 0),
    "ema": Key(0.0, "decay of the average of all weights; 0: none", least=0, below=1),
}
JOINT: Table = {
    "retrieval": Key(
        0.1, "weight of the retrieval's loss, without parts.retrieval", least=0, most=1e6
    ),
}
EVAL: Table = {
    "queries": whole(500, "test queries, evenly chosen; 0: all", 0),
    "pictures": whole(8, "rows of the sample grid"),
    "seed": whole(0, "of the noise", 0),
}
