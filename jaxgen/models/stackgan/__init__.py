"""StackGAN (Zhang et al., ICCV 2017): a sketch, then a GAN that refines it."""

from jaxgen.models.stackgan.task import keys, make_task, resolve, verbs
from jaxgen.tasks.t2i.text_part import parts

__all__ = ["LIKE", "keys", "make_task", "parts", "resolve", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "dfgan"
