"""One edit by several values of an option, and the strip that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import UserError, near
from jaxgen.grid import captioned_grid, enlarge
from jaxgen.verbs import Option, settings
from jaxgen.verbs.edit.contract import Request
from jaxgen.verbs.edit.use import Changer, Edited


def read(text: str, options: Mapping[str, Option]) -> tuple[str, list[str]]:
    """ "strength=0.2,0.4" -> (name, texts of the values); with semicolons values may hold commas.

    Raises:
      UserError: another form, no such option, or fewer than two values.
    """
    name, _, values = (part.strip() for part in text.partition("="))
    found = [one.strip() for one in values.split(";" if ";" in values else ",") if one.strip()]
    if not name or len(found) < 2:
        raise UserError(f"--sweep {text}: give OPTION=VALUE,VALUE, as strength=0.2,0.4,0.6")
    if name not in options:
        raise UserError(
            f"--sweep {text}: there is no option {name!r}; the method takes {', '.join(options)}"
            f"{near(name, tuple(options))}"
        )
    return name, found


def sweep(
    use: Changer, request: Request, name: str, values: Sequence[Any], batch: int | None = None
) -> list[Edited]:
    """The edit of one target by each of the values.

    What the method finds of the picture is found once, where the option does not change it.

    Raises:
      UserError: as of an edit; before anything is computed. Several targets.
    """
    if len(request.targets) > 1:
        raise UserError("a strip is of one target: leave the others out")
    method = use.method(request.method)
    requests = [
        request._replace(options={**request.options, name: value}) for value in values
    ]  # fmt: skip
    prepared = [use.prepare(one)[0] for one in requests]
    found: list[Edited] = []
    wanted = settings(method.options, prepared[0].options, use.name)
    if method.finds and request.picture is not None and name not in method.finds_by(wanted):
        found = list(use.each([requests[0]._replace(keep=True)]))
        kept = found[0].found
        requests = [
            one._replace(options=without(one.options), found=kept) for one in requests[1:]
        ]  # fmt: skip
    return [*found, *use.each(requests, batch=batch)]


def without(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without the file of an inversion."""
    return {key: value for key, value in options.items() if key != "inversion"}


def strip(request: Request, name: str, values: Sequence[Any], edits: Sequence[Edited]) -> Any:
    """source | reconstruction | an edit for each value, with captions, uint8 (h, w, 3)."""
    first = edits[0]
    row = [(request.source or "source", enlarge(first.source))]
    if first.reconstruction is not None:
        row.append((f"reconstruction, MSE {first.error:.2f}", enlarge(first.reconstruction)))
    row += [
        (f"{name}={value}", enlarge(one.pictures[0]))
        for value, one in zip(values, edits, strict=True)
    ]
    return np.asarray(captioned_grid([row], titles=[request.targets[0]]))
