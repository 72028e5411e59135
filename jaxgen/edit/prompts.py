"""What a picture is guided by: several texts, each with a weight and where it stops."""

from __future__ import annotations

import math
from typing import NamedTuple

from jaxgen.errors import SHOWN, UserError


class Wish(NamedTuple):
    """One text of a prompt.

    weight: how much it counts; below 0: away from it.
    stop: distance (of sign * spherical distance) below which a view no longer follows it.
    """

    text: str
    weight: float = 1.0
    stop: float = -math.inf


def parse(prompt: str) -> tuple[Wish, ...]:
    """`text:weight:stop|text|...` -> its texts; weight 1 and no stop where they are not given.

    A text may have colons itself where both of its numbers follow.

    Raises:
      UserError: no text, or a weight or stop that is no usable number.
    """
    return tuple(_parse_one(part, prompt) for part in prompt.split("|"))


def _parse_one(part: str, prompt: str) -> Wish:
    text, *numbers = part.rsplit(":", 2)
    if not text.strip():
        raise UserError(
            f"prompt {_short(prompt)}: a text is empty; write text:weight:stop, several by |"
        )
    weight = _number(part, numbers[0], "weight") if numbers else 1.0
    stop = _number(part, numbers[1], "stop") if len(numbers) > 1 else -math.inf
    if not math.isfinite(weight) or not weight:
        raise UserError(
            f"prompt {_short(part)}: weight {weight:g} must be a finite number other than 0"
        )
    if stop == math.inf:
        raise UserError(f"prompt {_short(part)}: with stop inf it would never be followed")
    return Wish(text.strip(), weight, stop)


def _number(part: str, value: str, name: str) -> float:
    """The number, not NaN.

    Raises: UserError.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise UserError(
            f"prompt {_short(part)}: {name} {_short(value)} is no number; write text:weight:stop, "
            "with both numbers where the text has a colon itself"
        )
    return number


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")
