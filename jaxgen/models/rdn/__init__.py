"""RDN, the residual dense network (Zhang et al., CVPR 2018): super-resolution for pixels."""

from jaxgen.models.rdn.task import keys, make_task, verbs

__all__ = ["LIKE", "keys", "make_task", "verbs"]

# The family whose tests go through its losses and phases, too.
LIKE = "srgan"
