"""ESRGAN (Wang et al. 2018) and Real-ESRGAN (Wang et al. 2021): RRDBNet, SRVGGNetCompact."""

from jaxgen.models.esrgan.task import keys, make_task, verbs

__all__ = ["LIKE", "keys", "make_task", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "srgan"
