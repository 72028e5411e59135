"""Runs of configs/sd15.py's variants on a tiny Stable Diffusion of random numbers."""

import json

import numpy as np
import pytest
from helpers import REPOSITORY, assert_bitwise, checkpoint_arrays, run
from support.tiny_sd import sd15_config, some_pictures

import jaxgen
from jaxgen.weights import parts

GOLDEN = REPOSITORY / "tests" / "golden" / "tree_sd15.json"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return some_pictures(tmp_path_factory.mktemp("pictures") / "few", 6)


def tree(arrays):
    return {key: list(value.shape) for key, value in sorted(arrays.items()) if "net_" in key}


@pytest.mark.slow
def test_a_lora_run_resumes_to_identical_bits(base, pictures, tmp_path):
    """Stopped at half and gone on with; only the change is saved, and the base is as it was."""
    through, halved = tmp_path / "through", tmp_path / "halved"
    changes = {"model__change__text_rank": 2}
    run(sd15_config(base, pictures, **changes), through)
    run(sd15_config(base, pictures, **changes, train__steps=2), halved)
    run(sd15_config(base, pictures, **changes), halved)
    arrays = checkpoint_arrays(through, 4)
    assert_bitwise(arrays, checkpoint_arrays(halved, 4))
    assert {key.partition("/")[0] for key in arrays} == {"net_change", "opt"}
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(tree(arrays), indent=1) + "\n")
        pytest.fail(f"{GOLDEN} was absent and has been written: look at it and commit it")
    assert tree(arrays) == json.loads(GOLDEN.read_text())
    kept = {name: parts.read(through, name) for name in ("g", "first_stage", "text")}
    for name, part in kept.items():
        source = base if name == "g" else base / "parts" / name
        want = parts.Wanted(nets=tuple(part.nets), alone=name == "g")
        assert part.fingerprint == parts.take(name, str(source), want).fingerprint
    model = jaxgen.load(through)
    picture = model.generate("a red cat", seed=1, steps=1)
    assert picture.shape == (1, 32, 32, 3)
    model.export(tmp_path / "export")
    again = jaxgen.load(tmp_path / "export")
    np.testing.assert_array_equal(picture, again.generate("a red cat", seed=1, steps=1))


@pytest.mark.slow
def test_full_fine_tuning_is_an_ordinary_run(base, pictures, tmp_path):
    """From the converted denoiser, with the parts that it brought, and evaluated."""
    config = sd15_config(
        base, pictures, "", data__texts=("a picture",), data__holdout=0.5, train__eval_every=0,
        train__steps=1, eval__captions=2, eval__pictures=1,
    )  # fmt: skip
    result = run(config, tmp_path)
    assert np.isfinite(result.metrics["denoising"])
    before, after = (jaxgen.load(folder) for folder in (base, tmp_path))
    assert after.made_of.keys() == {"first_stage", "text"}
    old, new = (np.asarray(m.nets["g"]["params"]["conv_out"]["kernel"]) for m in (before, after))
    assert 0 < np.abs(old - new).max() < 1e-3


def test_dreambooth_and_inversion(base, pictures, tmp_path):
    of_class = some_pictures(tmp_path / "class", 2, seed=1)
    config = sd15_config(
        base, pictures, "dreambooth", data__texts=("a photo of the red dog",), train__steps=1,
        model__prior__pictures=str(of_class), model__prior__texts=("a photo of a dog",),
    )  # fmt: skip
    assert run(config, tmp_path / "dreambooth").stopped == "done"
    config = sd15_config(
        base, pictures, "inversion", model__change__words=("<cat-toy>",),
        model__change__begin=("toy",), train__steps=1,
    )  # fmt: skip
    assert run(config, tmp_path / "inversion").stopped == "done"
    arrays = checkpoint_arrays(tmp_path / "inversion", 1)
    assert [key for key in arrays if key.startswith("net_")] == ["net_change/params/words"]
    assert np.abs(arrays["net_change/params/words"]).max() > 0
