"""Quantisers in training: over a sharded batch, placed anew, one interface, bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import float64
from jax.sharding import NamedSharding, PartitionSpec
from support.arrays import close

from jaxgen.errors import UserError
from jaxgen.losses import vq as losses
from jaxgen.models.vqgan import quantize
from jaxgen.models.vqgan.quantize import search
from jaxgen.train import mesh as meshes

# ------------------------------------------------------------------------------------- placed anew


def clusters(rng, n=256, far=8):
    """(2, n / 2, 1, 4): tight clusters around `far` far points."""
    centres = 5.0 * jax.random.normal(rng, (far, 4))
    z = jnp.repeat(centres, n // far, axis=0) + 0.01 * jax.random.normal(rng, (n, 4))
    return z.reshape(2, n // 2, 1, 4)


@pytest.mark.parametrize("form", ["vq", "ema", "cosine"])
def test_kmeans_makes_the_codebook_of_the_first_batch_alone(form):
    settings = {"kmeans": 10, "dim": 4}
    module = quantize.make(form, 64, 4, **settings)
    z = clusters(jax.random.key(0))
    variables = jax.jit(module.init)(jax.random.key(1), z)
    step = jax.jit(lambda v, z, rng: module.apply(v, z, True, mutable=["codebook"], rngs=rng))
    out, changed = step(variables, z, {"quantize": jax.random.key(2)})
    assert out.parts["distance"] < 1e-3
    first = {**variables, **changed}
    before = module.apply(first, method="vectors")
    assert first["codebook"]["started"] == 1
    # A later batch elsewhere moves it by what its form says, and no more.
    other = clusters(jax.random.key(3))
    _, changed = step(first, other, {"quantize": jax.random.key(4)})
    after = module.apply({**first, **changed}, method="vectors")
    if form == "vq":
        np.testing.assert_array_equal(after, before)
    assert step(first, other, {"quantize": jax.random.key(4)})[0].parts["distance"] > 0.01


@pytest.mark.parametrize("form", ["vq", "ema", "cosine"])
def test_dead_codes_are_revived(form):
    settings = {"vq": {}, "ema": {}, "cosine": {"dim": 4}}[form]
    z = clusters(jax.random.key(0), far=32)

    def perplexity(**more):
        module = quantize.make(form, 32, 4, **settings, **more)
        variables = jax.jit(module.init)(jax.random.key(1), z)
        # All codes at one end, where one of them takes all.
        table = jnp.full((32, 4), 9.0) + 0.01 * jnp.arange(32.0)[:, None]
        home = "params" if form == "vq" else "codebook"
        variables[home] = {**variables[home], "embedding": table}
        if form == "cosine":
            variables[home]["sums"] = table
        step = jax.jit(lambda v, z, rng: module.apply(v, z, True, mutable=["codebook"], rngs=rng))
        for i in range(6):
            out, changed = step(variables, z, {"quantize": jax.random.key(i)})
            variables = {**variables, **changed}
        return out.parts["perplexity"]

    assert perplexity(revive=1.0) > 2.5 * perplexity()


# ------------------------------------------------------------------------------- one for all forms

ALL = {
    "vq": {"kmeans": 2, "revive": 0.5, "entropy": 0.1, "entropy_temperature": 0.5, "dim": 4},
    "ema": {"kmeans": 2, "revive": 0.5, "rotation": True},
    "cosine": {"kmeans": 2, "revive": 0.5, "dim": 4},
    "simvq": {},
    "gumbel": {},
    "fsq": {"levels": (4, 4, 4)},
    "lfq": {},
}


def made(form, codes=64, width=8):
    module = quantize.make(form, codes, width, **ALL[form])
    z = jax.random.normal(jax.random.key(0), (8, 4, 4, width))
    return module, jax.jit(module.init)(jax.random.key(1), z), z


@pytest.mark.parametrize("form", quantize.FORMS)
def test_codes_lead_back(form):
    module, variables, z = made(form)
    quantized = jax.jit(module.apply)
    out = quantized(variables, z.astype(jnp.bfloat16))
    assert (out.z.shape, out.z.dtype) == (z.shape, jnp.float32)
    assert (out.codes.shape, out.codes.dtype) == (z.shape[:-1], jnp.int32)
    assert out.loss.shape == ()
    assert np.isfinite(out.loss)
    assert all(part.shape == () for part in out.parts.values())
    assert 0 < out.parts["usage"] <= 1 <= out.parts["perplexity"] <= 64
    vectors, found = jax.jit(
        lambda v, codes: (
            module.apply(v, method="vectors"),
            module.apply(v, codes, method="lookup"),
        )
    )(variables, out.codes)
    assert vectors.shape == (64, 8)
    close(found, out.z)
    close(vectors[out.codes], out.z)
    # The same again: nothing is drawn where nothing is trained.
    np.testing.assert_array_equal(quantized(variables, z.astype(jnp.bfloat16)).z, out.z)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("form", quantize.FORMS)
def test_sharded_batch_equals_one_device(form):
    module, variables, z = made(form)
    w = jax.random.normal(jax.random.key(5), z.shape)

    def value(params, state, z, rng):
        given = {"params": params, **state}
        out, state = module.apply(given, z, True, mutable=["codebook"], rngs={"quantize": rng})
        return jnp.sum(w * out.z) + out.loss, (out, state)

    step = jax.jit(jax.grad(value, (0, 2), has_aux=True))

    def two_steps(variables, z):
        state = dict(variables)
        params, results = state.pop("params", {}), []
        for i in range(2):
            grads, (out, state) = step(params, state, z, jax.random.key(i))
            results.append((grads, out, state))
        return results

    one = two_steps(variables, z)
    mesh = meshes.make_mesh({"data": 8, "fsdp": 1, "model": 1})
    z = jax.device_put(z, NamedSharding(mesh, PartitionSpec("data")))
    many = two_steps(jax.device_put(variables, NamedSharding(mesh, PartitionSpec())), z)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        close(b, a)


@pytest.mark.parametrize("form", quantize.FORMS)
def test_keys_describe_every_setting(form):
    table = quantize.keys(form)
    assert not {"codes", "width"} & table.keys()
    assert all(key.says for key in table.values()), [n for n, k in table.items() if not k.says]


@pytest.mark.parametrize(
    ("form", "codes", "settings", "message"),
    [
        ("vqq", 8, {}, "unknown quantiser 'vqq'; there are vq, "),
        ("vq", 8, {"betta": 1}, "quantiser vq: got an unexpected keyword argument 'betta'"),
        ("fsq", 64, {}, "FSQ with 64 codes needs its levels"),
        ("fsq", 64, {"levels": (8, 5)}, "have 40 codes, not 64"),
        ("fsq", 6, {"levels": (2, 3), "grid": "pytorch"}, "no level 2"),
        ("lfq", 100, {}, "a power of two of codes, not 100: 128 is"),
    ],
)
def test_impossible_settings(form, codes, settings, message):
    with pytest.raises(UserError, match=message):
        quantize.make(form, codes, 8, **settings)


def test_gumbel_evaluates_without_noise_unless_asked():
    module, variables, z = made("gumbel")
    rngs = [{"quantize": jax.random.key(i)} for i in range(2)]
    a, b = (module.apply(variables, z, rngs=rng).codes for rng in rngs)
    np.testing.assert_array_equal(a, b)
    noisy = quantize.make("gumbel", 64, 8, noisy=True)
    a, b = (noisy.apply(variables, z, rngs=rng).codes for rng in rngs)
    assert (a != b).any()


# ------------------------------------------------------------------------------------------ search


def test_blocks_find_what_the_whole_finds():
    z, codebook = (jax.random.normal(jax.random.key(i), (n, 8)) for i, n in enumerate((100, 70)))
    # Twins, in one block and in two: the first counts.
    codebook = codebook.at[40].set(codebook[3]).at[4].set(codebook[3])
    distances = np.square(np.asarray(z)[:, None] - np.asarray(codebook)[None]).sum(-1)
    z = z.at[:70].set(codebook)
    for block in (7, 16, 70, 2048):
        found = np.asarray(search.nearest(z, codebook, block))
        np.testing.assert_array_equal(found[70:], distances[70:].argmin(-1))
        assert found[3] == found[4] == found[40] == 3


def test_entropy_in_blocks_is_that_of_the_whole():
    def plain(z, codebook, temperature):
        p = jax.nn.softmax(-jnp.square(z[:, None] - codebook[None]).sum(-1) / temperature)
        mean = p.mean(0)
        each = jax.scipy.special.entr(p).sum(-1)
        return each.mean() + (mean * jnp.log(mean + 1e-5)).sum()

    with float64():
        z = jax.random.normal(jax.random.key(0), (50, 8), float)
        codebook = jax.random.normal(jax.random.key(1), (70, 8), float)
        expected = jax.jit(jax.value_and_grad(plain, (0, 1)))(z, codebook, 0.1)
        for block in (16, 70):
            made = jax.value_and_grad(lambda *a, b=block: losses.entropy_loss(*a, 0.1, b), (0, 1))
            found = jax.jit(made)(z, codebook)
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                close(a, b, 1e-11)


@pytest.mark.parametrize("form", ["vq", "ema", "cosine", "simvq", "lfq"])
def test_no_array_of_all_places_and_all_codes(form):
    codes, places = 2**14, 1024
    settings = {"revive": 0.5} if form in ("vq", "ema", "cosine") else {}
    settings |= {"entropy": 0.1} if form != "lfq" else {}
    module = quantize.make(form, codes, 16, **settings)
    z = jax.ShapeDtypeStruct((4, 16, 16, 16), "float32")
    rng = jax.random.key(0)
    variables = jax.eval_shape(module.init, rng, z)

    def value(params, state, z):
        given = {"params": params, **state}
        out, _ = module.apply(given, z, True, mutable=["codebook"], rngs={"quantize": rng})
        return jnp.sum(out.z) + out.loss

    state = dict(variables)
    program = jax.make_jaxpr(jax.grad(value, (0, 2)))(state.pop("params", {}), state, z)
    largest = max(sizes(program.jaxpr))
    assert largest <= places * search.BLOCK < places * codes


def sizes(jaxpr):
    """Elements of every array that a program makes."""
    for equation in jaxpr.eqns:
        yield from (int(np.prod(v.aval.shape)) for v in equation.outvars)
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from sizes(inner)
