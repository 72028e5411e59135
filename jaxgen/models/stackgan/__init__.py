"""StackGAN (Zhang et al., ICCV 2017): a sketch at low resolution, then a second GAN that refines it."""

from jaxgen.models.stackgan.task import make_task, resolve, verbs

__all__ = ["make_task", "resolve", "verbs"]
