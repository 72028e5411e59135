"""SRGAN (Ledig et al., CVPR 2017): super-resolution by a GAN, pre-trained as SRResNet."""

from jaxgen.models.srgan.task import keys, make_task, verbs

__all__ = ["keys", "make_task", "verbs"]
