"""TIRG (Vo et al., CVPR 2019) and its rivals: a picture and words ask for another picture."""

from jaxgen.models.tirg.over_clip import parts
from jaxgen.models.tirg.task import keys, make_task, resolve, verbs

# Published weights hold all that its verb needs.
WHOLE = True

__all__ = ["WHOLE", "keys", "make_task", "parts", "resolve", "verbs"]
