"""Prompt-guided super-resolution: an SRGAN that a text tells what the picture shows."""

from jaxgen.models.prompt_srgan.task import keys, make_task, verbs

__all__ = ["LIKE", "keys", "make_task", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "srgan"
