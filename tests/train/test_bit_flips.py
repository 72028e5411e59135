"""One flipped bit in any file of a real checkpoint or export is named, or changes no array."""

import random
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import run, tiny

import jaxgen
from jaxgen.errors import UserError
from jaxgen.train import loop
from jaxgen.train import mesh as meshes
from jaxgen.train.checkpoint import Checkpoints
from jaxgen.train.state import make_optimizers
from jaxgen.weights.checkpoints import load_for_use
from jaxgen.weights.files import read_tree

SHORT, LONG = 30, 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flips") / "run"
    run(tiny(train__steps=2, train__checkpoint_every=2), folder)
    return folder


@pytest.fixture(scope="module")
def like():
    """A fresh state, with the shapes that the checkpoint has."""
    config = tiny()
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:1])
    task = loop.load_task(config)
    shapes = {
        "lr": jax.ShapeDtypeStruct((8, 8, 8, 3), np.uint8),
        "hr": jax.ShapeDtypeStruct((8, 32, 32, 3), np.uint8),
    }
    return loop.fresh_state(task, make_optimizers(task, config), config, mesh, shapes)


def bits(tree) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def flipped(path: Path, rng: random.Random) -> bytes:
    """Flips one bit of a file; returns what it was."""
    whole = path.read_bytes()
    data, bit = bytearray(whole), rng.randrange(8 * len(whole))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return whole


def outcome(read, right) -> str:
    """How reading went: "named", "same" arrays, or what is wrong."""
    try:
        found = bits(read())
    except UserError as error:
        return "named" if "\n" not in str(error) and str(error) else f"many lines: {error}"
    return "same" if found == right else "UNSEEN"


@pytest.mark.parametrize("flips", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_flips_in_a_checkpoint(trained, like, flips, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    readers = {
        "resume": lambda: Checkpoints(folder).restore_latest(like)[0],
        "use": lambda: load_for_use(folder)[0],
    }
    right = {name: bits(read()) for name, read in readers.items()}
    files = sorted(p for p in (folder / "checkpoints").rglob("*") if p.is_file())
    rng, found = random.Random(flips), []
    for number in range(flips):
        path = files[number % len(files)]
        whole = flipped(path, rng)
        for name, read in readers.items():
            said = outcome(read, right[name])
            found.append((path.relative_to(folder).as_posix(), name, said))
        path.write_bytes(whole)
        assert files == sorted(p for p in (folder / "checkpoints").rglob("*") if p.is_file())
    assert {path for path, *_ in found} >= {"checkpoints/2/digests.json"}
    assert not [each for each in found if each[2] not in ("named", "same")]
    # A resume reads all that has a digest: only blanks of the digests' own file may go unnoticed.
    quiet = {path for path, name, said in found if name == "resume" and said == "same"}
    assert quiet <= {"checkpoints/2/digests.json"}


@pytest.mark.parametrize("flips", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def test_flips_in_an_export(trained, flips, tmp_path):
    path = jaxgen.load(trained).export(tmp_path / "export") / "weights.safetensors"
    right, rng = bits(read_tree(path)), random.Random(flips)
    for _ in range(flips):
        whole = flipped(path, rng)
        assert outcome(lambda: read_tree(path), right) == "named"
        path.write_bytes(whole)
