"""The keys of what draws composed features. Values only: they load without JAX."""

from __future__ import annotations

from jaxgen.keys import Key, Table, whole

MODEL: Table = {
    "changed": Key(
        4.0, "weight of errors where the target differs from the source", least=1, most=1e6
    ),
    "feature_noise": Key(
        0.7, "most noise on the targets' features that the decoder learns of", least=0, most=100
    ),
    "draws": whole(2, "times and noises at which a step looks at each feature, for the prior"),
    "drop_condition": Key(
        0.1, "share of these that the words are kept from, for guidance", least=0, below=1
    ),
    "sampling": {  # the verb's options where nobody sets them
        "steps": whole(32, "of the prior, from noise to a feature", most=1000),
        "guidance": Key(2.5, "above 1: picture and words count more", least=0, most=1000),
        "length": Key(0.75, "of what guidance draws, which is too long", least=0, most=10),
        "candidates": whole(
            16,
            "pictures drawn, of which the one counts that shows best what it was drawn of",
            most=1024,
        ),
    },
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
