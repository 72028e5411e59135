"""The former place of `jaxgen.runs.model`, for one release."""

from jaxgen.runs.model import Model, load

__all__ = ["Model", "load"]
