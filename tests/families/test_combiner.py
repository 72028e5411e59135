"""CLIP4Cir's Combiner: golden arrays, weights both ways, and a run over a CLIP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, run

import jaxgen
from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.losses.contrastive import unit
from jaxgen.losses.retrieval import batch_classification, scaled
from jaxgen.models.tirg.compose import Combiner, Sum, View
from jaxgen.models.tirg.over_clip import SCALE
from jaxgen.runs import convert


def _view(image):
    return View(image, image)


@pytest.fixture
def golden(fixtures_dir, tmp_path):
    held = np.load(fixtures_dir / "retrieval" / "clip4cir_combiner.npz")
    np.savez(tmp_path / "combiner.npz", **{k[3:]: held[k] for k in held if k.startswith("sd:")})
    return held


def test_features_loss_and_gradients_equal_the_original_s(golden, tmp_path):
    found = convert.convert(tmp_path / "combiner.npz")
    assert found.layout.name == "CLIP4Cir Combiner"
    net = Combiner(projection=32, hidden=48)
    image, text, target = (
        jnp.asarray(golden[f"{name}_features"]) for name in ("image", "text", "target")
    )
    combined = unit(net.apply(found.variables, _view(image), text))
    np.testing.assert_allclose(combined, golden["combined"], atol=1e-5)
    summed = unit(Sum().apply({}, _view(image), text))
    np.testing.assert_allclose(summed, golden["sum_baseline"], atol=1e-5)

    def loss(params, image, text):
        queries = net.apply({"params": params}, _view(image), text)
        return batch_classification(scaled(queries, SCALE), scaled(target, SCALE))

    value, grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(
        found.variables["params"], image, text
    )
    np.testing.assert_allclose(value, golden["loss"], rtol=1e-5)
    for ours, name in ((grads[1], "grad_image"), (grads[2], "grad_text")):
        theirs = golden[name]
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    theirs = golden["grad:combiner_layer.weight"].T
    ours = grads[0]["hidden"]["kernel"]
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_published_sizes_have_the_published_number_of_parameters():
    row = jax.ShapeDtypeStruct((1, 640), "float32")
    shapes = jax.eval_shape(lambda row: Combiner().init(jax.random.key(0), _view(row), row), row)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 59_003_521


def test_weights_go_back_as_they_came(golden, tmp_path):
    layout, back = convert.to_torch(tmp_path / "combiner.npz")
    assert layout.name == "CLIP4Cir Combiner"
    for key in golden:
        if key.startswith("sd:"):
            np.testing.assert_array_equal(back[key[3:]], golden[key])


def test_a_combiner_is_trained_over_a_clip_and_searches(tmp_path):
    clip = tmp_path / "clip"
    run(configs.load(f"{REPOSITORY}/configs/clip.py:tiny", {"train.eval_every": -1}), clip)
    config = configs.load(f"{REPOSITORY}/configs/tirg.py:tiny")
    with config.unlocked():
        config.model.image = {"form": "clip"}
        config.model.compose = {"form": "combiner", "projection": 8, "hidden": 8}
        config.parts = {"clip": str(clip)}
    result = run(config, tmp_path / "run")
    assert np.isfinite(result.metrics["recall_at_1"])
    model = jaxgen.load(tmp_path / "run")
    model.export(tmp_path / "exported")
    again = jaxgen.load(tmp_path / "exported")
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    ours = model.retrieve([picture], ["a red circle"])
    np.testing.assert_array_equal(ours, again.retrieve([picture], ["a red circle"]))
    # The gallery is the CLIP's own.
    own = jaxgen.load(clip).embed.pictures([picture])
    np.testing.assert_allclose(model.retrieve.pictures([picture]), own, atol=1e-6)
    layout, _ = convert.to_torch(tmp_path / "run")
    assert layout.name == "CLIP4Cir Combiner"
    with config.unlocked():
        config.data.size = 32
    with pytest.raises(UserError, match=r"data\.size=32 must be 16, that of parts\.clip"):
        run(config, tmp_path / "other")
    with config.unlocked():
        config.data.size = 16
        config.model.compose = {"form": "film"}
    with pytest.raises(UserError, match="looks at a picture's map"):
        run(config, tmp_path / "film")
