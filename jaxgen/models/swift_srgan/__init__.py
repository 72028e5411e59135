"""Swift-SRGAN (Krishnan and Krishnan 2021): SRGAN with depthwise separable convolutions."""

from jaxgen.models.swift_srgan.task import keys, make_task, verbs

__all__ = ["LIKE", "keys", "make_task", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "srgan"
