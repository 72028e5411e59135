"""The published layouts that the families know, `jaxgen/models/<family>/convert.py`."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import pkgutil
from typing import Any

from jaxgen import models as families
from jaxgen.errors import UserError
from jaxgen.weights.layout import Addition, Layout, Whole


def layouts() -> list[tuple[str, Layout]]:
    """(family, layout), of all families that have published weights."""
    return list(_listed("LAYOUTS"))


def wholes() -> list[tuple[str, Whole]]:
    """(family, form), of all models that are published whole, several nets at once."""
    return list(_listed("WHOLES"))


def additions() -> list[tuple[str, Addition]]:
    """(family, form), of what is learned beside a model's nets."""
    return list(_listed("ADDITIONS"))


@functools.cache
def _listed(what: str) -> tuple[tuple[str, Any], ...]:
    found = []
    for family in sorted(m.name for m in pkgutil.iter_modules(families.__path__)):
        name = f"jaxgen.models.{family}.convert"
        if importlib.util.find_spec(name) is not None:
            module = importlib.import_module(name)
            found += [(family, one) for one in getattr(module, what, ())]
    return tuple(found)


def find_layout(name: str) -> tuple[str, Layout]:
    """(family, layout) of that name; upper and lower case are the same.

    Raises:
      UserError: there is none; says the nearest.
    """
    known = {one.name.lower(): (family, one) for family, one in layouts()}
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), list(known), n=1)
        hint = f"; did you mean {known[near[0]][1].name!r}?" if near else ""
        raise UserError(f"no layout {name!r}{hint}; `jaxgen convert --list` names them")
    return known[name.lower()]
