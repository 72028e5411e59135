"""The checklist that every family passes, enumerated over jaxgen/models and its configs."""

import importlib
import json
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, STEADY_EPS, assert_close, checkpoint_arrays, run
from support.first_stage import with_parts

import jaxgen
import jaxgen.models
from jaxgen import config as configs
from jaxgen.runs.model import load
from jaxgen.task import Due
from jaxgen.train import loop
from jaxgen.train import mesh as meshes
from jaxgen.train.reads import Reads
from jaxgen.train.state import make_optimizers
from jaxgen.train.step import make_step
from jaxgen.weights.checkpoints import read_metrics

FAMILIES = sorted(m.name for m in pkgutil.iter_modules(jaxgen.models.__path__))
GOLDEN = REPOSITORY / "tests" / "golden"
# Keys that a tiny run may pass by, and what they are for beside it.
DEPENDENT = {
    r"data\.blind\..*": "data.degradation=blind",
    r"data\.(data_dir|div2k|flickr2k|name|image_key|path|path_validation|holdout)": "data.source",
    r"data\.(captions|font|on_bad|category|gallery|cache_mb)": "data.source",
    r"prompt_srgan: data\.source": "the one source of prompts",
    r"data\.(changes|objects|scenes|train_scenes)": "data.source, opened once in a process",
    r"data\.(tokenizer_json|vocabulary_size|embeddings)": "data.tokenizer, data.embeddings",
    r"data\.(length|vocabulary|relations)": "texts, where the family reads some",
    r"optimizer\.\w+\.(decays|weight_decay)": "optimizer.*.name",
    r"optimizer\.\w+\.(final|gamma|milestones)": "optimizer.*.schedule",
    r"optimizer\.(damsm|penalty)\..*": "the phase, where there is one",
    r"model\.loss\.(instance_noise|label_smoothing|total_variation).*": "a GAN phase",
    r"model\.loss\.(adversarial|d_steps_per_g_step|pixel|perceptual_.*)": "a GAN phase",
    r"model\.(loss\.(cutmix|damsm)_.*|loss\.(kl|magp_power|pixels|image_.*)|match\..*)": "the loss",
    r"model\.(masking|sampling)\..*": "model.form of a prior",
    r"model\.(classes|guided)": "the condition",
}
UNREAD = {}


def tiny_config(family, **changes):
    config = configs.load(
        f"{REPOSITORY}/configs/{family}.py:tiny",
        {key.replace("__", "."): value for key, value in changes.items()},
    )
    return with_parts(config)


def steady(config):
    """With an epsilon that lets runs of different topologies be compared; see `STEADY_EPS`."""
    for phase in config.optimizer:
        config.optimizer[phase].eps = STEADY_EPS
    return config


# A family's tests share a run: one xdist worker makes them all.
@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FAMILIES],
)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def finished(family, tmp_path_factory):
    """The `:tiny` config, run from start to end on one device."""
    folder = tmp_path_factory.mktemp(family)
    config = steady(tiny_config(family))
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Reads", lambda *given: made.append(Reads(*given)) or made[-1])
        result = loop.train(
            config, folder, devices=jax.devices()[:1], asked=configs.flatten(config)
        )
    assert result.stopped == "done"
    UNREAD[family] = made[0].unread()
    return config, folder, result


def test_there_is_a_family():
    assert "srgan" in FAMILIES


def test_a_family_is_like_one_that_stands_for_itself():
    """`LIKE` makes its dearest checks slow ones; those of the other family always run."""
    like = {
        name: getattr(importlib.import_module(f"jaxgen.models.{name}"), "LIKE", None)
        for name in FAMILIES
    }
    for name, other in like.items():
        assert other is None or (other in FAMILIES and like[other] is None), name


def test_tiny_run_leaves_what_a_run_should(finished):
    config, folder, result = finished
    assert result.step == config.train.steps
    assert all(np.isfinite(v) for v in result.metrics.values())
    for name in ("config.json", "environment.json", "metrics.jsonl", "curves.png"):
        assert (folder / name).stat().st_size > 0, name
    assert list((folder / "samples").glob("*.png"))
    about = json.loads((folder / "environment.json").read_text())
    assert about["versions"]["jax"] == jax.__version__
    logged = [line for line in read_metrics(folder) if line["kind"] == "train"]
    assert {"speed/steps_per_s", "speed/images_per_s", "speed/data_wait"} <= logged[-1].keys()


def test_every_key_has_an_effect_or_depends_on_others(family, finished):
    """A key that nobody reads is one that users set in vain."""
    names = [f"{family}: {key}" for key in UNREAD[family]]
    known = [rf"({family}: )?{pattern}" for pattern in DEPENDENT]
    assert [name for name in names if not any(re.fullmatch(p, name) for p in known)] == []


def test_parameter_tree_equals_the_golden(family, finished):
    """Guards against silent renames, which would orphan every checkpoint.

    A wanted change: delete the golden file, run this test, read the diff.
    """
    _, folder, result = finished
    arrays = checkpoint_arrays(folder, result.step)
    tree = {k: list(v.shape) for k, v in sorted(arrays.items()) if k.startswith("net_")}
    path = GOLDEN / f"tree_{family}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(tree, indent=1) + "\n")
        pytest.fail(f"{path} was absent and has been written: look at it and commit it")
    assert tree == json.loads(path.read_text())


def test_every_loss_falls_on_one_batch(family, tmp_path):
    """Each phase alone, its nets trained on one batch: the mean of the last losses is lower."""
    config = tiny_config(family)
    for phase in config.optimizer:
        config.optimizer[phase].update(schedule="constant", warmup=0, lr=5e-3)
    task = loop.load_task(config, loop.find_parts(config, tmp_path))
    optimizers = make_optimizers(task, config)
    batch, shapes = one_batch(task, config)
    mesh = meshes.make_mesh({"data": 1}, jax.devices()[:1])
    # Its `step` is 0; windows are the trainer's matter.
    fresh = loop.fresh_state(task, optimizers, config, mesh, shapes)
    for phase in task.phases:
        state = fresh
        lazy = (phase.name,) if phase.lazy else ()  # all that the phase ever does
        step = jax.jit(make_step(task, optimizers, config, Due((phase.name,), lazy)))
        losses = []
        for _ in range(30):
            state, tally = step(state, batch, task.frozen)
            losses.append(float(tally.sums[f"{phase.name}/loss"]))
        assert np.mean(losses[-3:]) < 0.97 * np.mean(losses[:3]), (phase.name, losses)


def test_sharded_equals_single(family, finished, tmp_path):
    _, one, result = finished
    changes = {"mesh__fsdp": 4, "mesh__fsdp_min_size": 64}
    run(steady(tiny_config(family, train__eval_every=-1, **changes)), tmp_path, devices=8)
    arrays = (checkpoint_arrays(folder, result.step) for folder in (one, tmp_path))
    assert_close(*arrays, 1e-5)


def test_bfloat16_run_stays_finite_with_float32_weights(family, tmp_path):
    config = tiny_config(family, train__dtype="bfloat16", train__eval_every=-1)
    result = run(config, tmp_path)
    arrays = checkpoint_arrays(tmp_path, result.step)
    for key, value in arrays.items():
        assert value.dtype != jnp.bfloat16, key
        assert np.isfinite(value).all(), key


def test_saved_exported_and_loaded_gives_the_same_output(finished, tmp_path):
    _, folder, _ = finished
    model = load(folder)
    model.export(tmp_path / "exported")
    again = jaxgen.load(tmp_path / "exported")
    assert model.verbs, "a family can do something"
    for name in model.verbs:
        assert name in SAMPLES, f"give SAMPLES an input for the verb {name}"
        SAMPLES[name](model, again)


def upscales_as_a_model_should(model, again):
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    ours, theirs = model.upscale(image), again.upscale(image)
    assert ours.shape == (9 * model.scale, 12 * model.scale, 3)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs)


def draws_as_a_model_should(model, again):
    """Pictures of the right kind, the same after loading, alone, and in other batches."""
    text = "a large red circle"
    ours = model.generate(text, 3, seed=5, batch=2)
    assert ours.shape == (3, model.size, model.size, 3)
    assert ours.dtype == np.uint8
    assert np.abs(np.diff(ours.astype(int), axis=0)).max() > 0, "noise has no effect"
    np.testing.assert_array_equal(ours, again.generate(text, 3, seed=5, batch=2))
    np.testing.assert_array_equal(ours[1], model.generate(text, seed=5, first=1, batch=2)[0])
    other = model.generate(["a small blue square", text], 2, seed=5, batch=3)
    assert np.abs(other[1].astype(int) - ours[:2]).max() <= 1, "depends on the batch"


def completes_as_a_model_should(model, again):
    """The beginning stays, the rest is drawn: the same alone and in other batches."""
    side = model.complete.verb.grid[0] * model.complete.verb.factor
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    ours = model.complete(image, 0.5, 3, seed=5, batch=2)
    assert ours.shape == (3, side, side, 3)
    assert ours.dtype == np.uint8
    assert np.abs(np.diff(ours.astype(int), axis=0)).max() > 0, "noise has no effect"
    np.testing.assert_array_equal(ours, again.complete(image, 0.5, 3, seed=5, batch=2))
    alone = model.complete(image, 0.5, seed=5, first=1, batch=1)[0]
    assert np.abs(alone.astype(int) - ours[1]).max() <= 1, "depends on the batch"
    whole = model.complete(image, 1.0, 2)
    np.testing.assert_array_equal(whole[0], whole[1])


def encodes_as_a_model_should(model, again):
    """Codes of any size of picture, and a picture of that size from them."""
    image = np.random.default_rng(0).integers(0, 256, (19, 26, 3), np.uint8)
    codes = model.encode(image)
    np.testing.assert_array_equal(codes, again.encode(image))
    assert codes.shape[:2] == (-(-19 // model.encode.factor), -(-26 // model.encode.factor))
    picture = model.encode.decode(codes, (19, 26))
    assert (picture.shape, picture.dtype) == ((19, 26, 3), np.uint8)
    np.testing.assert_array_equal(picture, again.encode.reconstruct(image))


def features_of_pictures(use, again):
    """Of length 1, whatever the pictures' sizes, and the same again; (pictures, features)."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in ((19, 26, 3), (40, 33, 3), (9, 9))]
    ours = use.pictures(images)
    assert ours.shape == (3, use.verb.width)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(ours, again.pictures(images))
    return images, ours


def embeds_as_a_model_should(model, again):
    """Features of length 1, whatever the batch and the pictures' sizes."""
    images, ours = features_of_pictures(model.embed, again.embed)
    np.testing.assert_allclose(ours[1:2], model.embed.pictures(images[1:2]), atol=1e-6)
    texts = model.embed.texts(["a large red circle", "a circle"])
    np.testing.assert_array_equal(texts, again.embed.texts(["a large red circle", "a circle"]))
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1.0, rtol=1e-5)
    chance = model.embed.classify(images, ["red", "green"], ["a {} circle", "{}"])
    np.testing.assert_allclose(chance.sum(axis=1), 1.0, rtol=1e-5)
    assert model.embed.texts([]).shape == (0, model.embed.verb.width)


def retrieves_as_a_model_should(model, again):
    """Features of length 1, whatever the batch; words change what is asked for."""
    images, _ = features_of_pictures(model.retrieve, again.retrieve)
    texts = ["make red cube blue", "remove yellow sphere", "add object"]
    asked = model.retrieve(images, texts)
    np.testing.assert_array_equal(asked, again.retrieve(images, texts))
    np.testing.assert_allclose(asked[1:2], model.retrieve(images[1:2], texts[1:2]), atol=1e-6)
    other = model.retrieve(images, texts[::-1])
    assert np.abs(asked[0] - other[0]).max() > 1e-6, "the words have no effect"
    assert model.retrieve([], []).shape == (0, model.retrieve.verb.width)


def edits_as_a_model_should(model, again):
    """Any picture, at the model's size; words change it, and the same after loading."""
    image = np.random.default_rng(0).integers(0, 256, (19, 26, 3), np.uint8)
    captioned = model.edit.method().captioned
    texts = ("a large red circle", "a large blue circle") if captioned else ("make circle blue",)
    ours, theirs = model.edit(image, *texts), again.edit(image, *texts)
    assert ours.pictures.shape == (1, *model.edit.verb.size, 3)
    assert ours.pictures.dtype == np.uint8
    np.testing.assert_array_equal(ours.pictures, theirs.pictures)


# By verb: what a trained model and the same one, exported and loaded, must both do.
SAMPLES = {
    "upscale": upscales_as_a_model_should,
    "generate": draws_as_a_model_should,
    "complete": completes_as_a_model_should,
    "edit": edits_as_a_model_should,
    "encode": encodes_as_a_model_should,
    "embed": embeds_as_a_model_should,
    "retrieve": retrieves_as_a_model_should,
}


def test_evaluation_mode_gives_the_run_s_own_numbers(finished):
    config, folder, result = finished
    metrics = loop.evaluate(config, folder)
    for key, value in result.metrics.items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-4, err_msg=key)
    assert json.loads((folder / "eval.json").read_text())["step"] == result.step


def test_readme_has_command_numbers_and_differences(family):
    path = REPOSITORY / "jaxgen" / "models" / family / "README.md"
    text = path.read_text()
    assert f"--config=configs/{family}.py" in text
    assert re.search(r"\d,\d{3}", text), "parameter counts"
    for heading in ("## Differences from the paper", "## Tested on"):
        assert heading in text


def test_config_documents_itself(family):
    module = importlib.util.spec_from_file_location(
        family, REPOSITORY / "configs" / f"{family}.py"
    ).loader.load_module()
    assert f"python -m jaxgen.main --config=configs/{family}.py" in module.__doc__


def one_batch(task, config):
    from jaxgen.data.pipeline import train_dataset

    records, transform = task.train_data()
    dataset = train_dataset(records, transform, batch_size=config.train.batch_size, seed=0)
    batch = dataset[0]
    return batch, {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}
