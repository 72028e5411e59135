"""KL autoencoder (Rombach et al., CVPR 2022): pictures as small maps of numbers, and back."""

from jaxgen.models.vae.task import keys, make_task, verbs

__all__ = ["LIKE", "keys", "make_task", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "vqgan"
