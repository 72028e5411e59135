"""What tests of several files begin with, that of Stable Diffusion's networks."""

import functools

import pytest


@pytest.fixture(scope="module")
def own(home, tmp_path_factory):
    """The diffusers folder `home` as a model of ours."""
    from jaxgen.runs import convert

    folder = tmp_path_factory.mktemp("own") / "own"
    convert.write_own(home, folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny Stable Diffusion, exported."""
    from support.tiny_sd import tiny_sd

    return tiny_sd().export(tmp_path_factory.mktemp("sd") / "base")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures to learn from."""
    from support.tiny_sd import some_pictures

    return some_pictures(tmp_path_factory.mktemp("pictures") / "few")


@pytest.fixture
def started(base, pictures, tmp_path):
    """What a run of configs/sd15.py begins with, by variant and changes; see `begun`."""
    from support.tiny_sd import begun

    return functools.partial(begun, base, pictures, tmp_path)
