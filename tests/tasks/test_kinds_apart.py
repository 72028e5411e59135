"""A kind of task loads what it needs and no other kind's."""

import subprocess
import sys

import pytest
from helpers import REPOSITORY, process_environment

OPEN = """
import importlib, sys
from jaxgen import config as configs

family = importlib.import_module(f"jaxgen.models.{sys.argv[1]}")
family.make_task(configs.load(f"configs/{sys.argv[1]}.py:tiny"))
print(*(name for name in sys.modules if name.startswith("jaxgen.")))
"""
SUPER_RESOLUTION = {
    "jaxgen.tasks.sr.task", "jaxgen.data.sr.blind", "jaxgen.encoders.vgg",
    "jaxgen.encoders.inception_resnet_v2", "jaxgen.metrics.psnr_ssim",
}  # fmt: skip
TEXT_TO_IMAGE = {"jaxgen.tasks.t2i.task", "jaxgen.data.captioned.section", "jaxgen.nn.text"}


@pytest.mark.parametrize(
    ("family", "others"), [("dfgan", SUPER_RESOLUTION), ("srgan", TEXT_TO_IMAGE)]
)
def test_opening_a_family_loads_no_other_kind(family, others):
    done = subprocess.run(
        [sys.executable, "-c", OPEN, family],
        cwd=REPOSITORY, env=process_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert f"jaxgen.models.{family}.task" in loaded
    assert not loaded & others
    # Names of modules that there are: a renamed one would never be found.
    for name in others:
        assert (REPOSITORY / f"{name.replace('.', '/')}.py").is_file(), name
