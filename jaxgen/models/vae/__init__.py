"""KL autoencoder (Rombach et al., CVPR 2022): pictures as small maps of numbers, and back."""

from jaxgen.models.vae.task import keys, make_task, verbs

__all__ = ["keys", "make_task", "verbs"]
# Losses and phases are the task's that it shares with this one: the longest tests of families are
# marked slow here.
LIKE = "vqgan"
