"""VQGAN (Esser et al., CVPR 2021): pictures as codes of a learned codebook, and back; VQ-VAE."""

from jaxgen.models.vqgan.task import keys, make_task, verbs

__all__ = ["keys", "make_task", "verbs"]
