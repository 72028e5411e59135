"""Latent diffusion (Rombach et al., CVPR 2022): pictures from noise and words, step by step."""

from jaxgen.models.ldm.task import keys, make_task, parts, resolve, verbs

__all__ = ["keys", "make_task", "parts", "resolve", "verbs"]
