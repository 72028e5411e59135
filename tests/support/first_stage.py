"""Parts for families that are made of some, trained once for all tests of a process."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile

from helpers import REPOSITORY, run

from jaxgen import config as configs
from jaxgen.train.family import wanted_parts


@functools.cache
def _tiny_run(family: str) -> str:
    folder = tempfile.mkdtemp(prefix=f"jaxgen-{family}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run(configs.load(f"{REPOSITORY}/configs/{family}.py:tiny", {"train.eval_every": -1}), folder)
    return folder


def tiny_first_stage() -> str:
    """A run of configs/vqgan.py:tiny: 8 x 8 codes of 16 for pictures of 16 pixels."""
    return _tiny_run("vqgan")


def tiny_retrieval() -> str:
    """A run of configs/tirg.py:tiny."""
    return _tiny_run("tirg")


def with_parts(config):
    """The config with the parts that its family cannot do without."""
    for name, want in wanted_parts(config).items():
        if want.needed and not config.parts.get(name):
            made = tiny_retrieval if want.families == ("tirg",) else tiny_first_stage
            config.parts[name] = made()
    return config
