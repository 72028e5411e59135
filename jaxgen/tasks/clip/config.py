"""The keys of a CLIP's config. Values only: they load without JAX."""

from __future__ import annotations

from jaxgen.keys import WIDEST, Key, Table, whole

TEXT: Table = {
    "width": whole(64, "of the text transformer", most=WIDEST),
    "layers": whole(2, "blocks", most=1000),
    "heads": whole(2, "whose number divides the width", most=WIDEST),
    "ids": whole(0, "different tokens of converted weights; 0: as the tokenizer has", 0),
    "context": whole(0, "tokens at most, of converted weights; 0: as the tokenizer has", 0),
}
MODEL: Table = {
    "embed": whole(64, "of the common features", most=WIDEST),
    "activation": Key("quick_gelu", "of both transformers", choices=("quick_gelu", "gelu")),
    "vocabulary": Key("", "the tokenizer of converted weights, as JSON"),
    "text": TEXT,
    "decoys": whole(0, "side of the squares of decoys, pictures without a text; 0: none", 0),
    "noise": Key(0.0, "deviation of noise on trained pictures, at most", least=0, most=10),
    "ema": Key(0.0, "decay of the average of all weights; 0: none", least=0, below=1),
}
EVAL: Table = {
    "captions": whole(200, "validation records, and as many held-out ones"),
    "pictures": whole(8, "rows of the sample grid"),
}
