"""Swift-SRGAN (Krishnan and Krishnan 2021): SRGAN with depthwise separable convolutions."""

from jaxgen.models.swift_srgan.task import make_task, verbs

__all__ = ["make_task", "verbs"]
