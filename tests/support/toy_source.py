"""A source of captioned pictures that is no part of jaxgen: plain colours, for tests."""

import sys

import numpy as np
import pytest

from jaxgen.errors import UserError

NAME = "colours"
EXAMPLE = "a blue picture"
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 80, 220)}


class Colours:
    def __init__(self, size, count):
        self._size, self._count = size, count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        name = list(COLOURS)[index % len(COLOURS)]
        image = np.full((self._size, self._size, 3), COLOURS[name], np.uint8)
        return {"image": image, "_captions": _captions(name), "meaning": index % len(COLOURS)}

    def captions(self):
        for index in range(self._count):
            yield _captions(list(COLOURS)[index % len(COLOURS)])


def _captions(name):
    return f"a {name} picture", f"all {name}"


def check(data):
    if data.enlarge > 1:
        raise UserError("data.source=colours draws pictures of data.size; set data.enlarge to 1")


def open_records(data, split):
    return Colours(data.size, data.count if split == "train" else len(COLOURS))


@pytest.fixture
def toy_source(monkeypatch):
    """This module as `jaxgen.data.captioned.colours`; gives the name for `data.source`."""
    monkeypatch.setitem(sys.modules, f"jaxgen.data.captioned.{NAME}", sys.modules[__name__])
    return NAME
