"""A decoder from the composed feature of a picture and words to the picture they ask for."""

from jaxgen.models.tirg_decoder.task import keys, make_task, parts, resolve, verbs

__all__ = ["keys", "make_task", "parts", "resolve", "verbs"]
