"""The keys of a latent diffusion model's config. Values only: they load without JAX."""

from __future__ import annotations

from jaxgen.keys import WIDEST, Key, Table, share, weight, whole
from jaxgen.tasks.t2i.config import READER, READERS

FORMS = ("unet", "dit")
CONDITIONS = ("none", "class", "text")
TARGETS = ("eps", "v", "x0", "flow")
SCHEDULES = ("scaled-linear", "linear", "cosine", "flow")
DENSITIES = ("uniform", "logit-normal", "mode")
TEXT: Table = {  # the encoder trained along; `parts.text` takes its place
    "kind": Key("transformer", "of the net that reads captions", choices=READERS),
    **READER,
}
SCHEDULE: Table = {
    "kind": Key(
        "flow",
        "how noise grows with time: betas whose roots are linear (Stable Diffusion), linear betas, "
        "a cosine, or a rectified flow",
        choices=SCHEDULES,
    ),
    "steps": whole(1000, "times of training; a flow's are any in between", 2, most=2**20),
    "first": Key(0.00085, "linear ones: the first beta", above=0, below=1),
    "last": Key(0.012, "linear ones: the last beta", above=0, below=1),
    "zero_snr": Key(False, "betas rescaled so that the last time is pure noise; target v or x0"),
    "shift": Key(1.0, "flow: of the times of sampling; above 1: more at much noise", above=0),
}
TIMES: Table = {
    "density": Key("uniform", "at which times training looks", choices=DENSITIES),
    "mean": Key(0.0, "logit-normal: above 0 more noise", least=-100, most=100),
    "std": Key(1.0, "logit-normal", above=0, most=100),
    "mode": Key(1.29, "mode: its strength", least=-1, most=1.75),
    "early": whole(
        0,
        "so many first steps see the noisiest tenth of the times only, where words alone say "
        "what lies where",
        0,
        needed=False,
    ),
}
MODEL: Table = {
    "condition": Key(
        "text", "what is asked for: nothing, a class (the record's meaning), a text",
        choices=CONDITIONS,
    ),
    "classes": whole(0, "class: their number", 0, most=WIDEST),
    "text": TEXT,
    "sentence": Key(False, "text: its one vector beside the time, too, and so in every block",
                    needed=False),
    "instruct": Key(False, "the denoiser sees the latent of the picture that is changed beside x, "
                    "and texts are instructions (InstructPix2Pix); only converted, not trained",
                    needed=False),
    "target": Key("flow", "what the denoiser says: noise, v, the picture, or a flow's velocity",
                  choices=TARGETS),
    "schedule": SCHEDULE,
    "times": TIMES,
    "min_snr": weight(0.0, "weights of min-SNR with this gamma (5 published); 0: none"),
    "offset_noise": share(0.0, "noise shifted for whole channels; published 0.05 to 0.1"),
    "latents": Key(
        "", 'file of latents (jaxgen prepare latents); "": pictures are encoded in each step'
    ),
    "drop_condition": Key(
        0.1, "share of the examples without their condition, for guidance", least=0, below=1
    ),
    "guided": Key(
        False, "guidance also without drop_condition: others trained the net for it", needed=False
    ),
    "sampling": {  # the verb's options where nobody sets them
        "sampler": Key("euler", "see `jaxgen.diffusion.plans`"),
        "steps": whole(30, "calls of the net or a few more"),
        "guidance": weight(2.0, "how much the condition counts, where it was dropped"),
        "spacing": Key(
            "", 'of the times; "": as suits the sampler',
            choices=("", "leading", "linspace", "trailing"),
        ),
    },
    "ema": Key(0.999, "decay of the average of all trained nets; 0: none", least=0, below=1),
}  # fmt: skip
# What is learned beside a net that stays as it is (`parts.g`, `parts.text`).
CHANGE: Table = {
    "rank": whole(0, "of low-rank changes to the denoiser (LoRA); 0: it stays as it is", 0),
    "layers": Key(
        r"attn\d/to_", "the denoiser's dense layers that change, by their paths", pattern=True
    ),
    "text_rank": whole(0, "as `rank`, of the text encoder's attention", 0),
    "text": Key(False, "all of the text encoder changes, by full matrices"),
    "alpha": weight(0.0, "low-rank changes count alpha / rank times; 0: once"),
    "words": Key((), "new words of the text encoder, such as <cat-toy>; twice: of two vectors",
                 each=Key("")),
    "begin": Key((), "words whose vectors they begin with: one for each, or for all; (): zeros",
                 each=Key("")),
}  # fmt: skip
# Pictures of the class that keep a net from forgetting it (DreamBooth, Ruiz et al. 2023).
PRIOR: Table = {
    "pictures": Key("", 'folder of pictures of the class; "": none'),
    "texts": Key((), "what each of them is called, such as a photo of a dog", each=Key("")),
    "weight": weight(1.0, "of their loss beside that of the pictures"),
}
EVAL: Table = {
    "captions": whole(200, "validation records, and as many held-out ones"),
    "pictures": whole(8, "captions in the sample grid"),
    "noises": whole(4, "pictures per caption, for diversity and the grid", 2),
}
