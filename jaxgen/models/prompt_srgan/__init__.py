"""Prompt-guided super-resolution: an SRGAN that a text tells what the picture shows."""

from jaxgen.models.prompt_srgan.task import make_task, verbs

__all__ = ["make_task", "verbs"]
