"""SSA-GAN (Liao et al., CVPR 2022): text to image through masks that the network finds itself."""

from jaxgen.models.ssagan.task import keys, make_task, resolve, verbs
from jaxgen.tasks.t2i.text_part import parts

__all__ = ["LIKE", "keys", "make_task", "parts", "resolve", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "dfgan"
