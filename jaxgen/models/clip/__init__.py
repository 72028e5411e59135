"""CLIP (Radford et al., ICML 2021): pictures and texts in one space, trained or published."""

from jaxgen.models.clip.task import keys, make_task, resolve, verbs

# Published weights hold all that its verb needs.
WHOLE = True

__all__ = ["WHOLE", "keys", "make_task", "resolve", "verbs"]
