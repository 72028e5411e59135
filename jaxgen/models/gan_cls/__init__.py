"""GAN-CLS, GAN-INT and GAN-INT-CLS (Reed et al., ICML 2016): the first text-to-image GANs."""

from jaxgen.models.gan_cls.task import make_task, resolve, verbs

__all__ = ["LIKE", "make_task", "resolve", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "dfgan"
