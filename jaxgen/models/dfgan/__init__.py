"""DF-GAN (Tao et al., CVPR 2022): text to image in one stage, and its form with dense blocks."""

from jaxgen.models.dfgan.task import keys, make_task, resolve, verbs
from jaxgen.tasks.t2i.text_part import parts

__all__ = ["keys", "make_task", "parts", "resolve", "verbs"]
