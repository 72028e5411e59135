"""What a trained model can do: a folder for each verb.

`<verb>/contract.py` is what a family offers: a frozen dataclass of pure functions whose first
argument are the nets' variables. `<verb>/use.py` is what `model.<verb>` is: pictures and texts in,
pictures out, on the host; its `bind(offered, nets, name)` is found by the verb's name.
`<verb>/files.py` is what its command does with paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from jaxgen.errors import UserError, near, shown

# Numbers that are larger are none on a device, where they are float32 and int32.
_LARGEST = {float: 3.4028234e38, int: 2**31 - 1}


class Option(NamedTuple):
    """One setting that a model's verb takes; the command and the model card read it.

    Attributes:
      default: a number or a text; what is given must be of its kind, whole where it is an int.
      says: what it does, for --help and lists.
      least, most: bounds of a number, both allowed; None: none.
      above: bound of a number that is not allowed itself.
      choices: of a text; (): any.
      open: in Python a text may be another object, such as a picture, which the model checks.
    """

    default: Any
    says: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    open: bool = False


class Verb(Protocol):
    """What a family offers.

    Attributes:
      nets: names of the nets whose variables the functions get.
      options: settings by name. They reach the functions as one traced argument, `given`, so that
        another value compiles nothing.
    """

    @property
    def nets(self) -> tuple[str, ...]: ...

    @property
    def options(self) -> Mapping[str, Option]: ...

    def facts(self) -> dict[str, Any]:
        """What lists and cards say without reading weights: {"scale": 4}."""

    def says(self) -> str:
        """What it does, as a model card begins: "Super-resolution x4"."""

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """A line of Python and a command that use it ("": none), for the model `name`."""

    def trace(self, nets: Mapping[str, Any]) -> Any:
        """Runs it on shapes alone; raises any exception where the weights do not fit."""


def settings(options: Mapping[str, Option], given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Every option's value: what was given, else its default.

    Args:
      name: of the model, for the message.

    Raises:
      UserError: an option that there is not, or a value that is not allowed.
    """
    for key in given:
        if key not in options:
            known = f"it takes {', '.join(options)}" if options else "it takes none"
            raise UserError(f"{name} has no option {shown(key)}; {known}{near(key, options)}")
    for key, value in given.items():
        _check(key, value, options[key])
    return {key: _value(given.get(key, option.default), option) for key, option in options.items()}


def _value(value: Any, option: Option) -> Any:
    """Of its option's kind: a list of edits may say 0.8 for "0.8", and 20.0 for 20."""
    return value if option.open else type(option.default)(value)


def _check(key: str, value: Any, option: Option) -> None:
    if isinstance(option.default, str):
        if option.open:
            return
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise UserError(f"the {key} must be a text, not {shown(value)}")
        if option.choices and value not in option.choices:
            choices = ", ".join(option.choices)
            raise UserError(f"the {key} must be one of {choices}, not {shown(value)}")
        return
    # Not of NaN, which is below and above nothing.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not abs(value) <= _LARGEST[float]):
        raise UserError(f"the {key} must be a finite number, not {shown(value)}")
    said = shown(value) if isinstance(value, int) else f"{value:g}"
    whole = isinstance(option.default, int)
    if whole and value != int(value):
        raise UserError(f"the {key} must be a whole number, not {said}")
    bounds = (
        (option.above, lambda bound: value > bound, "above"),
        (option.least, lambda bound: value >= bound, "at least"),
        (option.most, lambda bound: value <= bound, "at most"),
    )
    wanted = [f"{word} {bound:g}" for bound, _, word in bounds if bound is not None]
    if not all(holds(bound) for bound, holds, _ in bounds if bound is not None):
        raise UserError(f"the {key} must be {' and '.join(wanted)}, not {said}")
    if not abs(value) <= _LARGEST[int if whole else float]:
        raise UserError(f"the {key} is too large: {said}")
