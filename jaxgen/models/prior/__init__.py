"""A transformer over the codes of a first stage: taming-transformers' prior, and MaskGIT's."""

from jaxgen.models.prior.task import keys, make_task, parts, resolve, verbs

__all__ = ["keys", "make_task", "parts", "resolve", "verbs"]
