"""The keys of a prior's config. Values only: they load without JAX."""

from __future__ import annotations

from jaxgen.keys import Key, Table, share, weight, whole

FORMS = ("gpt", "maskgit")
CONDITIONS = ("none", "class", "text", "image")
ORDERS = ("rows", "subsample", "zcurve", "spiral_out", "spiral_in", "random", "alternate")
MODEL: Table = {
    "form": Key("gpt", "one code after the other, or MaskGIT's, in parallel", choices=FORMS),
    "condition": Key(
        "text",
        "what stands in front: nothing, a class (the record's meaning), its caption, or the codes "
        "that `parts.condition` has for the picture",
        choices=CONDITIONS,
    ),
    "classes": whole(0, "class: their number", 0),
    "shared_ids": Key(False, "the condition's ids are the codes', as published (ImageNet's 1.4B)"),
    "length": whole(0, "positions of the transformer; 0: as many as are needed", 0),
    "order": Key("rows", "of the cells in the sequence", choices=ORDERS),
    "pkeep": share(1.0, "gpt: share of the codes before a code that it sees as they are"),
    "drop_condition": Key(
        0.0, "share of the examples without their condition, for guidance", least=0, below=1
    ),
    "codes": Key("", 'file of codes (jaxgen prepare codes); "": encoded in each step'),
    "masking": {
        "least": share(0.5, "maskgit: least share of the codes that are masked"),
        "label_smoothing": Key(0.1, "maskgit", least=0, below=1),
    },
    "sampling": {  # the verbs' options where nobody sets them
        "temperature": Key(1.0, "of the logits", least=1e-4, most=1000),
        "top_k": whole(0, "gpt: of so many codes; 0: all", 0),
        "top_p": share(1.0, "gpt: of codes with so much probability together"),
        "guidance": weight(1.0, "how much the condition counts, where it was dropped"),
        "steps": whole(12, "maskgit: in so many all codes are drawn"),
        "choice_temperature": weight(4.5, "maskgit: how freely the codes to keep are chosen"),
    },
    "ema": Key(0.999, "decay of the transformer's average; 0: none", least=0, below=1),
}
EVAL: Table = {
    "captions": whole(200, "validation records, and as many held-out ones"),
    "pictures": whole(8, "captions in the sample grid"),
    "noises": whole(4, "pictures per caption, for diversity and the grid", 2),
}
