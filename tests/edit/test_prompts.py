"""`text:weight:stop|...` as it is read, and what is refused in one line."""

import math

import pytest

from jaxgen.edit.prompts import Wish, parse
from jaxgen.errors import UserError


@pytest.mark.parametrize(
    ("prompt", "wishes"),
    [
        ("a city", [Wish("a city")]),
        ("a city:2", [Wish("a city", 2.0)]),
        ("rain: -0.5 | a city:1:.9", [Wish("rain", -0.5), Wish("a city", 1.0, 0.9)]),
        ("at 10:30:1:-inf", [Wish("at 10:30", 1.0, -math.inf)]),
    ],
)
def test_reads(prompt, wishes):
    assert parse(prompt) == tuple(wishes)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "a text is empty"),
        ("a||b", "a text is empty"),
        (":1", "a text is empty"),
        ("a city: at night", "' at night' is no number"),
        ("a city:1:x", "stop 'x' is no number"),
        ("a city:nan", "weight 'nan' is no number"),
        ("a city:0", "other than 0"),
        ("a city:inf", "finite"),
        ("a city:1:inf", "never be followed"),
        ("x" * 500 + ":y", "no number"),
    ],
)
def test_refuses(prompt, says):
    with pytest.raises(UserError) as error:
        parse(prompt)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
