"""StackGAN (Zhang et al., ICCV 2017): a sketch, then a GAN that refines it."""

from jaxgen.models.stackgan.task import make_task, resolve, verbs

__all__ = ["LIKE", "make_task", "resolve", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "dfgan"
