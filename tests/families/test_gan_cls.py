"""GAN-CLS: counts, the transposed convolution, and what the variants switch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY
from support.referees import pytorch

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.models.gan_cls import make_task, verbs
from jaxgen.models.gan_cls.discriminator import Discriminator
from jaxgen.models.gan_cls.generator import Generator
from jaxgen.models.gan_cls.task import make_discriminator, make_generator
from jaxgen.nn.dcgan import transposed_conv2d
from jaxgen.nn.text import Text

CONFIG = f"{REPOSITORY}/configs/gan_cls.py"
WIDTH = 1024  # of the published sentences


def shape(*size):
    return jax.ShapeDtypeStruct(size, jnp.float32)


def text(sentence):
    b, width = sentence.shape
    return Text(words=jnp.zeros((b, 1, width)), mask=jnp.ones((b, 1), bool), sentence=sentence)


def built(generator, discriminator):
    """(picture's shape, parameters of both) with 1,024-wide sentences."""
    key, features = jax.random.key(0), jax.eval_shape(text, shape(2, WIDTH))
    drawn, g = jax.eval_shape(generator.init_with_output, key, shape(2, *generator.noise), features)
    judged, d = jax.eval_shape(
        discriminator.init_with_output, key, drawn.image, (features.sentence,) * 2
    )
    assert [(j.pair.shape, j.image) for j in judged] == [((2,), None)] * 2
    count = [sum(leaf.size for leaf in jax.tree.leaves(net["params"])) for net in (g, d)]
    return drawn.image.shape, *count


@pytest.mark.parametrize(
    ("variant", "counts"), [("cub", (18_909_699, 4_032_321)), ("coco", (41_107_551, 36_190_557))]
)
def test_published_counts(variant, counts):
    config = configs.load(f"{CONFIG}:{variant}")
    networks = make_generator(config), make_discriminator(config)
    assert built(*networks) == ((2, 64, 64, 3), *counts)


@pytest.mark.parametrize("size", [8, 16, 32, 128])
def test_other_sizes(size):
    networks = Generator(size=size, features=4), Discriminator(size=size, features=4)
    assert built(*networks)[0] == (2, size, size, 3)


def test_a_size_that_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"data\.size=48: gan_cls draws 8, 16"):
        make_generator(configs.load(CONFIG, {"data.size": 48}))


def test_transposed_convolution_equals_torch_s():
    """Both ways to compute it; torch's kernel is turned and has the input's channels first."""
    torch = pytorch()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3, 4)).astype(np.float32)
    kernel = rng.normal(size=(4, 4, 4, 6)).astype(np.float32)
    theirs = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2)),
        torch.from_numpy(np.ascontiguousarray(kernel[::-1, ::-1].transpose(2, 3, 0, 1))),
        stride=2,
        padding=1,
    )
    theirs = theirs.numpy().transpose(0, 2, 3, 1)
    fast = jax.jit(transposed_conv2d)(x, kernel)
    plain = jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")
    for ours in (fast, plain):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


def test_sentences_are_judged_one_by_one():
    """In training, too, where BatchNorm would mix the kinds of pairs; its statistics move twice."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 8, 8, 3)), jnp.float32)
    one, other = (jnp.asarray(rng.normal(size=(4, 6)), jnp.float32) for _ in range(2))
    d = Discriminator(size=8, features=4, condition=5)
    variables = jax.tree.map(
        lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape) ** 2, a.dtype),
        jax.eval_shape(d.init, jax.random.key(0), x, (one,)),
    )

    def judge(sentences):
        found, changed = d.apply(variables, x, sentences, True, mutable=["batch_stats"])
        return [j.pair for j in found], changed["batch_stats"]

    both, twice = judge((one, other))
    (alone,), once = judge((one,))
    np.testing.assert_allclose(both[0], alone, rtol=1e-4, atol=1e-5)
    assert np.abs(both[1] - both[0]).max() > 1e-3
    same = [
        jnp.allclose(twice[k]["mean"], once[k]["mean"]) for k in ("sentence_norm", "joint_norm")
    ]
    assert same == [False, False]
    # The picture's own layers ran once.
    before, after = once["bottleneck"], twice["bottleneck"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), before, after)


@pytest.mark.parametrize(
    ("variant", "terms"),
    [
        ("", (1.0, 0.5, 0.5, 1.0)),
        ("int_cls", (1.0, 0.5, 0.5, 1.0)),
        ("cls", (1.0, 0.5, 0.5, 0.0)),
        ("int", (1.0, 1.0, 0.0, 1.0)),
        ("gan", (1.0, 1.0, 0.0, 0.0)),
    ],
)
def test_variants_switch_the_losses(variant, terms):
    loss = configs.load(f"{CONFIG}:{variant}").model.loss
    assert (loss.real, loss.fake, loss.mismatch, loss.interpolate) == terms
    assert loss.kind == "nonsaturating"


def test_cub_s_schedule_is_the_paper_s():
    """600 epochs of 8,855 pictures after the text encoder's steps, halved every 100."""
    config = configs.load(f"{CONFIG}:cub")
    adam = config.optimizer.g
    assert (adam.lr, adam.b1, adam.gamma) == (2e-4, 0.5, 0.5)
    assert adam.milestones == tuple(138 * epoch for epoch in (100, 200, 300, 400, 500))
    assert config.train.steps == 10_000 + 600 * 138


def test_verb_and_phases():
    config = configs.load(f"{CONFIG}:tiny")
    verb = verbs(config)["generate"]
    assert (verb.nets, verb.size, verb.noise) == (("text", "g"), 16, (8,))
    phases = [(p.name, p.nets) for p in make_task(config).phases]
    assert phases == [("d", ("d", "text")), ("g", ("g",))]
