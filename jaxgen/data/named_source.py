"""Sources of data as modules of a package, found by their names."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

from jaxgen.errors import UserError, near


def find(package: str, name: str, kind: type[Any]) -> Any:
    """What the module that `data.source` names offers, as a `kind`.

    Args:
      package: in which the sources' modules are; those have an `EXAMPLE`.
      kind: a dataclass whose fields are names in such a module; the module may lack those with a
        default.

    Raises:
      UserError: there is none of this name; lists those that there are.
    """
    module = f"{package}.{name}"
    held: dict[str, Any] = {}
    try:
        if str(name).isidentifier():
            held = vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    if "EXAMPLE" not in held:
        known = names(package)
        raise UserError(
            f"data.source must be one of {', '.join(known)}, not {name!r}{near(str(name), known)}"
        )
    fields = [field.name for field in dataclasses.fields(kind)]
    return kind(**{key: held[key] for key in fields if key in held})


def names(package: str) -> list[str]:
    """The names of a package's sources."""
    path = importlib.import_module(package).__path__
    found = [module.name for module in pkgutil.iter_modules(path)]
    return [n for n in found if hasattr(importlib.import_module(f"{package}.{n}"), "EXAMPLE")]
