"""StackGAN: counts, parity with StackGAN-PyTorch's arrays, and how the two stages meet."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from support.referees import pytorch

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.evaluation import captions
from jaxgen.losses import cutmix
from jaxgen.models.stackgan import convert as stackgan_convert
from jaxgen.models.stackgan import losses, make_task, task, verbs
from jaxgen.models.stackgan.discriminator import layers
from jaxgen.models.stackgan.generator import ConditioningAugmentation
from jaxgen.nn.text import Text
from jaxgen.runs import convert
from jaxgen.tasks.t2i import task as t2i
from jaxgen.tasks.t2i.losses import T2ILosses

CONFIG = f"{REPOSITORY}/configs/stackgan.py"
FIRST, WITHIN, SECOND, JUDGE, SECOND_JUDGE = stackgan_convert.LAYOUTS


def shape(*size):
    return jax.ShapeDtypeStruct(size, jnp.float32)


def text(sentence):
    b, width = sentence.shape
    return Text(words=jnp.zeros((b, 1, width)), mask=jnp.ones((b, 1), bool), sentence=sentence)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))


def counts(variant, **changes):
    """Parameters of stage I's and stage II's networks with 1,024-wide sentences."""
    config = configs.load(
        f"{CONFIG}:{variant}", {k.replace("__", "."): v for k, v in changes.items()}
    )
    key, first, second = jax.random.key(0), task.make_first(config), task.make_second(config)
    features = jax.eval_shape(text, shape(2, 1024))
    low, g = jax.eval_shape(first.init_with_output, key, shape(2, *first.noise), features)
    drawn, g2 = jax.eval_shape(
        second.init_with_output, key, shape(2, *second.noise), low.image, features
    )
    found = [count(g), 0, count(g2), 0]
    for stage, picture in ((1, low.image), (2, drawn.image)):
        seen = shape(2, 1024 if config.model.form == "tf" else 128)
        judge = task.make_discriminator(config, stage)
        judged, d = jax.eval_shape(judge.init_with_output, key, picture, (seen, seen))
        assert [j.pair.shape for j in judged] == [(2,), (2,)]
        assert (judged[0].image is not None) == (config.model.form == "pytorch" and stage == 2)
        found[2 * stage - 1] = count(d)
    assert (low.image.shape, drawn.image.shape) == ((2, 64, 64, 3), (2, 256, 256, 3))
    return found


def test_counts_of_the_published_networks():
    assert counts("coco") == [20_020_832, 12_407_425, 37_130_480, 159_889_538]
    cub_widths = {
        "model__generator__features": 128, "model__discriminator__features": 64,
        "model__stage2__generator__features": 128, "model__stage2__discriminator__features": 64,
    }  # fmt: skip
    assert counts("coco", **cub_widths) == [10_301_248, 5_715_713, 16_848_800, 71_269_122]


def test_counts_of_the_paper_s_form():
    assert counts("cub") == [14_247_811, 4_029_825, 26_290_083, 69_575_041]


def test_layers_of_the_discriminator():
    assert [layers(n) for n in (8, 64, 128, 256)] == [(1, 0), (4, 0), (5, 1), (6, 2)]


# -------------------------------------------------------------------------------- the original's


@pytest.fixture(scope="module")
def fixture(fixtures_dir):
    """All arrays of StackGAN-PyTorch in eval mode."""
    with np.load(fixtures_dir / "stackgan_pytorch.npz") as file:
        return {key: file[key] for key in file.files}


def state(fixture, net):
    return {k.removeprefix(net): v for k, v in fixture.items() if k.startswith(net)}


def converted(layout, tensors):
    sizes = layout.sizes(tensors)
    config = layout.config(sizes)
    return config, weights.convert(tensors, layout.rules(sizes), layout.expected(config))


def assert_equals_torch(ours, theirs):
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


@pytest.fixture(scope="module")
def first_stage(fixture):
    """(config, variables of g, Drawn) of stage I on the fixture's input."""
    config, variables = converted(FIRST, state(fixture, "g1:"))
    z = jnp.concatenate([fixture["z"], fixture["eps"]], axis=-1)
    drawn = jax.jit(task.make_first(config).apply)(variables, z, text(fixture["text"]))
    return config, variables, drawn


def stage_one_in_torch(torch, state, z, eps, sentence):
    """(picture, mu, log variance) of StackGAN-PyTorch's stage I generator in eval mode, NCHW."""
    f = torch.nn.functional
    w = {key: torch.from_numpy(value) for key, value in state.items()}

    def norm(x, name):
        mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return torch.relu(f.batch_norm(x, mean, variance, w[f"{name}.weight"], w[f"{name}.bias"]))

    both = torch.relu(f.linear(sentence, w["ca_net.fc.weight"], w["ca_net.fc.bias"]))
    mu, log_variance = both.chunk(2, dim=1)
    sample = mu + torch.exp(0.5 * log_variance) * eps
    x = norm(f.linear(torch.cat([z, sample], dim=1), w["fc.0.weight"]), "fc.1")
    x = x.view(x.shape[0], -1, 4, 4)
    for i in range(1, 5):
        x = f.conv2d(f.interpolate(x, scale_factor=2), w[f"upsample{i}.1.weight"], padding=1)
        x = norm(x, f"upsample{i}.2")
    return torch.tanh(f.conv2d(x, w["img.0.weight"], padding=1)), mu, log_variance


def test_stage_one_equals_the_original(fixture, first_stage):
    """Its weights in the fixture are those that y2 was made with, not y1, mu and logvar."""
    torch = pytorch()
    config, variables, drawn = first_stage
    inputs = [torch.from_numpy(fixture[name]) for name in ("z", "eps", "text")]
    picture, *moments = stage_one_in_torch(torch, state(fixture, "g1:"), *inputs)
    assert_equals_torch(drawn.image, picture.numpy())
    mu, log_variance = (m.double().numpy() for m in moments)
    kl = -0.5 * np.mean(1 + log_variance - mu**2 - np.exp(log_variance))
    np.testing.assert_allclose(drawn.kl, kl, rtol=1e-5)
    first = task.make_first(config)
    seen = losses.condition({"g": variables["params"]}, text(fixture["text"]), first)
    assert_equals_torch(seen, mu)


def test_stage_one_s_discriminator_equals_the_original(fixture):
    config, variables = converted(JUDGE, state(fixture, "d1:"))
    picture = fixture["y1"].transpose(0, 2, 3, 1)
    judge = task.make_discriminator(config, 1)
    # The same sentence twice: each is judged on its own.
    found = jax.jit(judge.apply)(variables, picture, (fixture["mu"], fixture["mu"]))
    assert found[0].image is None
    for one in found:
        assert_equals_torch(jax.nn.sigmoid(one.pair), fixture["logit1"])


def test_stage_two_equals_the_original(fixture, first_stage):
    """With stage I's generator in front."""
    config, variables = converted(SECOND, state(fixture, "g2:"))
    first_config, g, drawn = first_stage
    before = fixture["z"].shape[1] + fixture["eps"].shape[1]
    second = dataclasses.replace(task.make_second(config), before=before)
    z = np.concatenate([fixture[name] for name in ("z", "eps", "eps2")], axis=-1)
    features = text(fixture["text"])
    low = losses.draw_low(task.make_first(first_config), g, z, features)
    np.testing.assert_allclose(low, drawn.image, atol=1e-6)
    drawn = jax.jit(second.apply)(variables, z, low, features)
    assert_equals_torch(drawn.image, fixture["y2"])


@pytest.mark.parametrize(("layout", "net"), [(FIRST, "g1:"), (JUDGE, "d1:"), (SECOND, "g2:")])
def test_round_trip_is_exact(fixture, layout, net):
    tensors = state(fixture, net)
    config, variables = converted(layout, tensors)
    back = weights.to_torch(variables, layout.rules(layout.read(config)))
    assert back.keys() == {k for k in tensors if not k.endswith("num_batches_tracked")}
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[key], err_msg=key)


def test_a_stage_two_file_holds_both_generators(fixture):
    """As published: stage I's under its prefix; which of the two is asked for by name."""
    own, first = state(fixture, "g2:"), state(fixture, "g1:")
    whole = {**own, **{f"STAGE1_G.{key}": value for key, value in first.items()}}
    with pytest.raises(UserError, match=r"within stage II and .* stage II generator alike"):
        convert.recognise(whole)
    for layout, tensors in ((WITHIN, first), (SECOND, own)):
        _, found, _ = convert.recognise(whole, layout.name)
        _, variables = converted(found, whole)
        like = converted(FIRST if layout is WITHIN else SECOND, tensors)[1]
        ours, theirs = weights.flatten(variables), weights.flatten(like)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


# ------------------------------------------------------------------------------------- the parts


def test_the_paper_s_conditioning_augmentation():
    """Log sigma, where StackGAN-PyTorch has log variance; LeakyReLU 0.2 on both."""
    rng = np.random.default_rng(0)
    sentence, eps = rng.normal(size=(3, 5)), rng.normal(size=(3, 4))
    kernel, bias = rng.normal(size=(5, 8)), rng.normal(size=8)
    sample, mu, kl = ConditioningAugmentation(4, "tf").apply(
        {"params": {"fc": {"kernel": kernel, "bias": bias}}}, sentence, eps
    )
    both = sentence @ kernel + bias
    both = np.where(both > 0, both, 0.2 * both)
    sigma = np.exp(both[:, 4:])
    np.testing.assert_allclose(mu, both[:, :4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sample, both[:, :4] + sigma * eps, rtol=1e-4, atol=1e-5)
    closed = 0.5 * (both[:, :4] ** 2 + sigma**2 - 1) - np.log(sigma)
    np.testing.assert_allclose(kl, closed.mean(), rtol=1e-4)


def test_shrink_takes_the_mean_of_blocks():
    x = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    small = np.asarray(losses.shrink(x, 2))
    np.testing.assert_allclose(small[1, 0, 1], x[1, :4, 4:].mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_array_equal(losses.shrink(x, 8), x)


# ------------------------------------------------------------------------------------ the stages


def windows(built):
    return {p.name: (p.nets, p.start, p.stop) for p in built.phases}


def batch(size):
    return {
        "image": jax.ShapeDtypeStruct((4, size, size, 3), np.uint8),
        "tokens": jax.ShapeDtypeStruct((4, 24), np.int32),
        "mask": jax.ShapeDtypeStruct((4, 24), np.bool_),
        "meaning": jax.ShapeDtypeStruct((4,), np.int32),
    }


def arrays(rng):
    return {
        "image": jnp.asarray(rng.integers(0, 256, (4, 16, 16, 3), np.uint8)),
        "tokens": jnp.asarray(rng.integers(1, 9, (4, 24)), jnp.int32),
        "mask": jnp.ones((4, 24), bool),
        "meaning": jnp.arange(4),
    }


def nets(built, size=16):
    return set(jax.eval_shape(built.init, jax.random.key(0), batch(size))[0])


def test_both_stages_in_one_run():
    built = make_task(configs.load(f"{CONFIG}:tiny"))
    assert windows(built) == {
        "d": (("d", "text"), 0, 2), "g": (("g",), 0, 2),
        "d2": (("d2",), 2, None), "g2": (("g2",), 2, None),
    }  # fmt: skip
    assert nets(built) == {"text", "g", "d", "g2", "d2"}
    assert set(built.ema) == {"text", "g", "g2"}
    assert built.eval_nets == ("text", "g", "g2")


def test_the_stage_that_was_trained_last_is_evaluated(monkeypatch):
    built = make_task(configs.load(f"{CONFIG}:tiny"))  # stage II from step 2 on
    seen = []
    monkeypatch.setattr(
        captions, "evaluate", lambda config, verb, *_: seen.append((config.data.size, verb.nets))
    )
    for step in (1, 2, 3):
        built.evaluate({}, {}, step)
    assert seen == [(8, ("text", "g")), (8, ("text", "g")), (16, ("text", "g", "g2"))]


def test_stage_one_alone_draws_data_size():
    changes = {"model.stages": (1,), "model.gan_stop": 0}
    config = configs.load(f"{CONFIG}:tiny", changes)
    built = make_task(config)
    assert windows(built) == {"d": (("d", "text"), 0, None), "g": (("g",), 0, None)}
    verb = verbs(config)["generate"]
    assert (verb.nets, verb.size, verb.noise) == (("text", "g"), 16, (16,))
    assert task.make_first(config).size == 16


def test_stage_two_alone_starts_from_a_run():
    config = configs.load(f"{CONFIG}:tiny", {"model.stages": (2,)})
    with pytest.raises(UserError, match=r"train\.init_from\.g and"):
        make_task(config)
    config.train.init_from.update(g="runs/one", text="runs/one")
    built = make_task(config)
    assert windows(built) == {"d2": (("d2",), 0, None), "g2": (("g2",), 0, None)}
    assert nets(built) == {"text", "g", "g2", "d2"}
    assert set(built.ema) == {"g2"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model.stages": (3,)}, r"model\.stages=\(3,\) must be"),
        ({"model.gan_stop": 0}, r"model\.gan_stop=0 is the step"),
        ({"model.factor": 3}, r"model\.factor=3 must be"),
        ({"model.factor": 4}, "4 px here"),
        ({"data.size": 24}, "powers of two"),
        ({"model.form": "keras"}, r"unknown model\.form 'keras'"),
        ({"model.loss.penalty_apart": True}, "for stage I alone"),
    ],
)
def test_what_cannot_be_is_refused(changes, reason):
    with pytest.raises(UserError, match=reason):
        make_task(configs.load(f"{CONFIG}:tiny", changes))


@pytest.mark.parametrize("trained_by", ["g", "d", "both"])
def test_a_fixed_encoder_drops_nothing_in_stage_two(monkeypatch, trained_by):
    """Stage I's phases, which train it, read with dropout; stage II's read the text as it is."""
    config = configs.load(f"{CONFIG}:tiny")
    config.model.text.update(kind="lstm", embedding=8, dropout=0.5, trained_by=trained_by)
    built = make_task(config)
    example = arrays(np.random.default_rng(0))
    whole, variables = t2i.make_text_encoder(config).init_with_output(
        jax.random.key(0), example["tokens"], example["mask"]
    )
    seen = {}

    def draw(self, params, mutable, text, z):
        seen["text"] = text
        raise StopIteration  # all that follows is of no interest

    for kind in (T2ILosses, losses.StageTwoLosses):
        monkeypatch.setattr(kind, "draw", draw)
    for phase in built.phases:
        with pytest.raises(StopIteration):
            phase.loss({"text": variables["params"]}, {}, {}, example, jax.random.key(1), 0)
        same = bool(jnp.array_equal(seen["text"].words, whole.words))
        assert same == (phase.name in ("d2", "g2")), phase.name


def test_cutmix_warms_up_in_each_stage(monkeypatch):
    """Counted from the stage's own first step."""
    config = configs.load(f"{CONFIG}:unet")
    built = make_task(config)
    shapes = jax.eval_shape(built.init, jax.random.key(0), batch(config.data.size))
    steps = []

    def seen(rng, judge, real, fake, right, made, probability, warmup, step):
        steps.append(step)
        return jnp.zeros(()), {}

    monkeypatch.setattr(cutmix, "losses", seen)
    for phase in (p for p in built.phases if p.name in ("d", "d2")):
        loss = partial(phase.loss, rng=jax.random.key(1), step=phase.start + 3)
        jax.eval_shape(loss, *shapes, {}, batch(config.data.size))
    assert steps == [3, 3]


@pytest.mark.slow
def test_stage_two_trains_its_own_nets_alone_and_sees_stage_one_as_it_draws():
    """No gradient to stage I or the text, no change of its statistics; its noise comes first."""
    config = configs.load(f"{CONFIG}:tiny")
    built = make_task(config)
    rng = np.random.default_rng(0)
    example = arrays(rng)
    shapes = jax.eval_shape(built.init, jax.random.key(0), example)
    params, mutable = jax.tree_util.tree_map_with_path(
        lambda path, a: (
            jnp.asarray(1.0 if path[-1].key == "var" else 0.3 * rng.normal(size=a.shape), a.dtype)
            * jnp.ones(a.shape, a.dtype)
        ),
        shapes,
    )
    loss = {p.name: p.loss for p in built.phases}["g2"]

    def value(params):
        return loss(params, mutable, {}, example, jax.random.key(1), jnp.asarray(3))

    gradients, (changed, metrics) = jax.jit(jax.grad(value, has_aux=True))(params)
    assert {"g2"} <= set(changed) <= {"g2", "d2"}
    assert set(metrics) == {"adversarial", "kl"}
    largest = {
        n: max(float(jnp.abs(a).max()) for a in jax.tree.leaves(g)) for n, g in gradients.items()
    }
    assert largest["g2"] > 0
    assert largest["g"] == 0
    verb = verbs(config)["generate"]
    assert verb.noise == (8 + 8 + 8,)
    held = {n: {"params": params[n], **mutable.get(n, {})} for n in verb.nets}
    read = verb.embed(held, example["tokens"], example["mask"])
    z = jnp.asarray(rng.normal(size=(4, *verb.noise)), jnp.float32)
    draw = jax.jit(verb.draw)
    pictures, masks = draw(held, read, z, None)
    assert (pictures.shape, masks) == ((4, 16, 16, 3), ())
    for part in (slice(0, 8), slice(8, 16), slice(16, 24)):
        other, _ = draw(held, read, z.at[:, part].multiply(-1.0), None)
        assert float(jnp.abs(other - pictures).max()) > 0, part
