"""The prior: conditions, orders, samplers, cached codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, noise, run
from PIL import Image
from support.first_stage import tiny_first_stage, with_parts

import jaxgen
from jaxgen import config as configs
from jaxgen import weights
from jaxgen.data import cached
from jaxgen.data.pipeline import train_dataset
from jaxgen.errors import UserError
from jaxgen.models.prior import decode, window
from jaxgen.models.prior.layout import make_sequence
from jaxgen.models.prior.losses import PriorLosses
from jaxgen.models.prior.orders import ORDERS, order
from jaxgen.models.prior.sampler import Sampler
from jaxgen.nn.transformer import GPT, vectors
from jaxgen.runs import codes as code_files
from jaxgen.train import family, start
from jaxgen.train.optimizer import make_optimizer
from jaxgen.verbs.complete.use import Completer
from jaxgen.weights import parts

# ------------------------------------------------------------------------------- sequences, orders


@pytest.mark.parametrize("name", ORDERS)
def test_orders_visit_every_cell_once(name):
    for grid in ((2, 2), (4, 4), (16, 16)):
        assert sorted(order(name, grid)) == list(range(grid[0] * grid[1]))


def test_orders_of_four_by_four():
    """Of each cell its place in the sequence; the ones of taming-transformers' permuters."""
    wanted = {
        "alternate": [[0, 1, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11], [15, 14, 13, 12]],
        "zcurve": [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]],
        "subsample": [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]],
        "spiral_out": [[9, 10, 11, 12], [8, 1, 2, 13], [7, 0, 3, 14], [6, 5, 4, 15]],
        "spiral_in": [[6, 5, 4, 3], [7, 14, 13, 2], [8, 15, 12, 1], [9, 10, 11, 0]],
    }
    for name, places in wanted.items():
        found = np.argsort(order(name, (4, 4))).reshape(4, 4)
        np.testing.assert_array_equal(found, places, err_msg=name)
    with pytest.raises(UserError, match="needs a square grid of 2, 4, 8"):
        order("subsample", (4, 6))


def test_the_window_at_the_training_s_size_is_the_plain_scan():
    gpt = GPT(16, 16, 40, 2, 2, 16)
    g = jax.jit(gpt.init)(jax.random.key(1), jnp.zeros((1, 2), jnp.int32))
    g = jax.tree.map(lambda a: a + 0.2 * jax.random.normal(jax.random.key(a.size), a.shape), g)
    keys = jax.random.randint(jax.random.key(2), (3, 2), 0, 1 << 30).astype(jnp.uint32)
    numbers = decode.uniforms(keys, 36)
    known = jax.random.randint(jax.random.key(3), (3, 6, 6), 0, 16)
    keep = jnp.zeros((6, 6), bool).at[1, 2:].set(True)
    front = vectors(g, jnp.array([[1, 2, 3]] * 3))
    given = {"temperature": jnp.float32(1), "top_k": jnp.int32(5), "top_p": jnp.float32(0.9)}

    @jax.jit
    def both():
        slid = window.slid(gpt, g, lambda i, j: front, known, keep, numbers, (6, 6), given)
        flat = known.reshape(3, 36), keep.reshape(36)
        return slid, decode.continued(gpt, g, front, *flat, numbers, given).reshape(3, 6, 6)

    slid, plain = both()
    np.testing.assert_array_equal(slid, plain)
    np.testing.assert_array_equal(plain[:, keep], known[:, keep])


# ------------------------------------------------------------------------- a family of conditions


def prepared(variant="tiny", **changes):
    """(config with its parts filled in, task, nets of the initial state, one batch)."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    config = with_parts(configs.load(f"{REPOSITORY}/configs/prior.py:{variant}", changes))
    config = family.resolve(config)
    found = start.find_parts(config, "/nowhere")
    task = family.load_task(config, found)
    records, transform = task.train_data()
    batch = train_dataset(records, transform, batch_size=8, seed=0)[0]
    params, mutable = jax.jit(task.init)(jax.random.key(0), batch)
    nets = {"g": {"params": params["g"]}, **parts.named(parts.arrays(found))}
    return parts.filled(config, found), task, nets, params, mutable, batch


CASES = {
    "none": {"model__condition": "none", "model__drop_condition": 0.0},
    "class": {"model__condition": "class", "model__classes": 1000},
    "text in z order": {"model__order": "zcurve", "model__pkeep": 0.9},
    "image": {"model__condition": "image"},
    "maskgit": {"model__form": "maskgit"},
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "maskgit" else pytest.mark.slow) for c in CASES]
)
def test_every_condition_is_trained_on_and_drawn(case):
    config, task, nets, params, mutable, batch = prepared(**CASES[case])
    loss = jax.jit(task.phases[0].loss)
    value, (_, metrics) = loss(params, mutable, task.frozen, batch, jax.random.key(1), 0)
    # An untrained transformer knows nothing of 16 codes.
    assert abs(float(metrics["nats"]) - np.log(16)) < 0.1
    assert np.isfinite(value)
    losses = PriorLosses(make_sequence(config), config)
    verbs = Sampler(losses, config).verbs()
    for verb in verbs.values():
        verb.trace({net: nets[net] for net in verb.nets})
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    drawn = Completer(verbs["complete"], nets, "prior")(image, 0.5, 2, prompt="")
    assert drawn.shape == (2, 16, 16, 3)


@pytest.mark.slow
def test_pictures_without_captions(tmp_path):
    for i in range(4):
        Image.fromarray(noise(20, 20, seed=i)).save(tmp_path / f"{i}.png")
    own = {"data__source": "plain", "data__path": str(tmp_path), "data__holdout": 0.25}
    with pytest.raises(UserError, match="pictures without captions"):
        prepared(**own)
    *_, batch = prepared(**own, **CASES["none"])
    assert sorted(batch) == ["image"]
    path = tmp_path / "codes"
    settings = {key.replace("__", "."): value for key, value in own.items()}
    config = configs.load(f"{REPOSITORY}/configs/prior.py:tiny", settings)
    code_files.write(config, tiny_first_stage(), path)
    *_, batch = prepared(**own, **CASES["none"], model__codes=str(path))
    assert sorted(batch) == ["codes", "meaning"]
    config = with_parts(config)
    config.model.update(condition="none", drop_condition=0.0, codes=str(path))
    assert np.isfinite(run(config, tmp_path / "run").metrics["nats"])


def test_images_in_front_are_no_texts():
    config, *_ = prepared(**CASES["image"])
    assert list(Sampler(PriorLosses(make_sequence(config), config), config).verbs()) == ["complete"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__size": 17}, "data.size=17 must be a multiple of 2"),
        ({"model__condition": "class"}, "needs model.classes"),
        ({"model__condition": "none"}, "set model.drop_condition=0"),
        ({"model__shared_ids": True}, "set model.drop_condition=0"),
        ({"model__transformer__heads": 3}, "must be a multiple of model.transformer.heads=3"),
        ({"model__length": 5}, "model.length=5: a sequence has 75 positions"),
        ({"data__embeddings": "x"}, "data.embeddings"),
        ({"parts__condition": "x"}, "parts.condition is of model.condition=image"),
        ({"model__condition": "class", "model__classes": 3}, "set it above the largest"),
        ({"model__codes": "nowhere"}, "model.codes=nowhere: no such file"),
        ({"model__condition": "none", "model__codes": "x"}, "no such file"),
    ],
)
def test_impossible_settings_are_one_line(changes, said):
    with pytest.raises(UserError) as caught:
        prepared(**changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_first_stage_that_is_missing_or_none(tmp_path):
    for source, said in (
        ("", "needs a trained model as parts.first_stage"),
        ("nowhere", "parts.first_stage: nowhere is neither"),
        ("dfgan_shapes", "parts.first_stage must be a model that encodes pictures as codes"),
    ):
        config = configs.load(f"{REPOSITORY}/configs/prior.py:tiny", {"parts.first_stage": source})
        with pytest.raises(UserError, match=said):
            run(config, tmp_path / "run")
        assert not (tmp_path / "run" / "config.json").exists()


# -------------------------------------------------------------------------- a trained prior, drawn


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "run"
    config = with_parts(configs.load(f"{REPOSITORY}/configs/prior.py:tiny"))
    config.train.eval_every = -1
    run(config, folder)
    return jaxgen.load(folder)


def test_other_options_compile_nothing_and_change_the_picture(trained):
    draw = trained.generate
    text = "a large red circle"
    plain = draw(text, 2, seed=1, batch=2)
    for options in ({"temperature": 0.2}, {"top_k": 1}, {"top_p": 0.1}):
        assert np.any(draw(text, 2, seed=1, batch=2, **options) != plain), options
    greedy = draw(text, 2, seed=1, batch=2, top_k=1)
    np.testing.assert_array_equal(greedy[0], greedy[1])
    assert draw.verb.draw_program._cache_size() == 1
    for guidance in (0.0, 1.5, 3.0):
        draw(text, 2, seed=1, batch=2, guidance=guidance)
    assert draw.verb.draw_program._cache_size() == 2  # with it, and without its second half
    with pytest.raises(UserError, match="the top_p must be at least 0 and at most 1, not 2"):
        draw(text, top_p=2.0)


def test_larger_pictures_by_the_window(trained):
    draw = trained.generate
    large = draw("a large red circle", 3, seed=2, batch=2, size=(20, 27))
    assert large.shape == (3, 20, 26, 3)  # a code has two pixels
    alone = draw("a large red circle", 1, seed=2, first=2, batch=1, size=(20, 26))
    assert np.abs(alone[0].astype(int) - large[2]).max() <= 1
    with pytest.raises(UserError, match="8 x 16 is too small: at least 16 x 16 pixels"):
        draw("a circle", size=(8, 16))


def test_between_texts_and_not_between_noises(trained):
    way = trained.generate.between("a red circle", "a blue square", 3, seed=1)
    assert way.shape == (3, 16, 16, 3)
    with pytest.raises(UserError, match="no way between two noises: give two texts"):
        trained.generate.between("a red circle", steps=3)


def test_a_run_without_codes_of_its_own_first_stage_is_refused(tmp_path):
    path = tmp_path / "codes"
    config = with_parts(configs.load(f"{REPOSITORY}/configs/prior.py:tiny"))
    assert code_files.write(config, tiny_first_stage(), path) == 64
    held = cached.Codes(path)
    assert (len(held), held.about["grid"], held.about["codes"]) == (64, [8, 8], 16)

    config.model.codes = str(path)
    _, task, _, params, mutable, batch = prepared(model__codes=str(path))
    loss = jax.jit(task.phases[0].loss)
    value, _ = loss(params, mutable, task.frozen, batch, jax.random.key(1), 0)
    _, task, _, _, _, seen = prepared()
    same, _ = jax.jit(task.phases[0].loss)(params, mutable, task.frozen, seen, jax.random.key(1), 0)
    np.testing.assert_allclose(value, same, rtol=1e-5)  # the same codes as in the step

    with pytest.raises(UserError, match=r"is of other pictures than the config.s data .count 64"):
        prepared(model__codes=str(path), data__count=65)
    with pytest.raises(UserError, match="condition=image needs the pictures in each step"):
        prepared(model__codes=str(path), model__condition="image")
    held.about["first_stage"] = "0" * 64
    with pytest.raises(UserError, match=r"another first stage than parts\.first_stage, or of one"):
        held.check_first_stage(parts.take("x", tiny_first_stage(), parts.Wanted()).fingerprint)
    path.write_bytes(b"nothing of this kind")
    with pytest.raises(UserError, match="is no file of codes"):
        cached.Codes(path)


def test_kernels_alone_decay():
    """taming-transformers' groups: linear weights decay; biases, norms and embeddings don't."""
    settings = configs.load(f"{REPOSITORY}/configs/prior.py").optimizer.g
    settings.update(schedule="constant", warmup=0, lr=0.1, weight_decay=0.5)
    variables = jax.jit(GPT(16, 16, 8, 1, 2, 16).init)(
        jax.random.key(0), jnp.zeros((1, 2), jnp.int32)
    )
    params = jax.tree.map(lambda a: a + 1.0, variables["params"])
    rule = make_optimizer(settings, 10).rule
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    moved = {path for path, a in weights.flatten(updates).items() if np.abs(a).max() > 0}
    assert moved == {path for path in weights.flatten(params) if path.endswith("kernel")}
    assert "head/kernel" in moved
