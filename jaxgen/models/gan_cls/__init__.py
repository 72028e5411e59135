"""GAN-CLS, GAN-INT and GAN-INT-CLS (Reed et al., ICML 2016): the first text-to-image GANs."""

from jaxgen.models.gan_cls.task import keys, make_task, resolve, verbs
from jaxgen.tasks.t2i.text_part import parts

__all__ = ["LIKE", "keys", "make_task", "parts", "resolve", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "dfgan"
