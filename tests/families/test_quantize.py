"""Quantisers equal the originals' golden arrays: codes, losses, gradients, updates."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.arrays import close

from jaxgen.losses import vq as losses
from jaxgen.models.vqgan import quantize
from jaxgen.models.vqgan.quantize import search


@pytest.fixture(scope="module")
def golden(fixtures_dir):
    """A fixture's arrays by its name."""
    opened = {}

    def read(name):
        if name not in opened:
            opened[name] = dict(np.load(fixtures_dir / f"{name}.npz"))
        return opened[name]

    return read


def gradients(module, variables, z, w, train=False):
    """Of sum(w * quantised) + loss: (to the parameters, to z, Quantized, changed)."""

    def value(params, z):
        given = {**variables, "params": params}
        out, changed = module.apply(given, z, train, mutable=["codebook"] if train else [])
        return jnp.sum(w * out.z) + out.loss, (out, changed)

    gradient = jax.jit(jax.grad(value, (0, 1), has_aux=True))
    both, (out, changed) = gradient(variables.get("params", {}), z)
    return *both, out, changed


def evaluate(module, variables, z):
    """Quantized, jitted: eager, each little operation would be compiled."""
    return jax.jit(module.apply)(variables, z)


# -------------------------------------------------------------------------------- learned codebook


@pytest.mark.parametrize("order", ["legacy", "fixed"])
def test_vq_equals_taming(golden, order):
    g = golden("taming_vqgan_tiny")
    module = quantize.make("vq", 64, 16, legacy=order == "legacy")
    variables = {"params": {"embedding": g["sd:quantize.embedding.weight"]}}
    out = evaluate(module, variables, g["h"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(out.codes.reshape(-1), g["idx"])
    close(out.z, g["zq"].transpose(0, 2, 3, 1))
    close(out.loss, g[f"loss_{order}"])


def test_order_of_beta():
    z, chosen = jnp.array([[1.0]]), jnp.array([[3.0]])
    of_codebook = lambda e, legacy: losses.codebook_loss(z, e, 0.25, legacy)  # noqa: E731
    of_z = lambda z, legacy: losses.codebook_loss(z, chosen, 0.25, legacy)  # noqa: E731
    assert jax.grad(of_codebook)(chosen, False)[0, 0] == 4.0
    assert jax.grad(of_z)(z, False)[0, 0] == -1.0
    assert jax.grad(of_codebook)(chosen, True)[0, 0] == 1.0
    assert jax.grad(of_z)(z, True)[0, 0] == -4.0


def test_vq_equals_haiku(golden):
    g = golden("retrieval/vq_haiku")
    module = quantize.make("vq", 12, 6)
    variables = {"params": {"embedding": g["embeddings0_dim_by_codes"].T}}
    params, grad, out, _ = gradients(module, variables, g["x0"], g["w"])
    np.testing.assert_array_equal(out.codes, g["vq:encoding_indices"])
    close(out.z, g["vq:quantize"])
    close(out.loss, g["vq:loss"])
    close(out.parts["perplexity"], g["vq:perplexity"])
    close(grad, g["vq:grad_x"])
    close(params["embedding"], g["vq:grad_embeddings"].T)


def test_vq_with_entropy_equals_maskgit(golden):
    g = golden("retrieval/maskgit_tokenizer")
    module = quantize.make("vq", 24, 16, entropy=0.1, entropy_temperature=0.5)
    variables = {"params": {"embedding": g["params:quantizer/codebook"]}}
    out = evaluate(module, variables, g["z"])
    np.testing.assert_array_equal(out.codes, g["indices"])
    close(out.z, g["quantized"])
    close(0.1 * out.parts["entropy"], g["entropy_loss"])
    close(out.loss, g["quantizer_loss"])
    for temperature in ("1.0", "0.01"):
        # Unit vectors: minus the squared distance is the affinity and what all codes have.
        for block in (7, 24):
            z, codebook = g["entropy:affinity"] / 2.0, jnp.eye(24)
            found = losses.entropy_loss(z, codebook, float(temperature), block)
            close(found, g[f"entropy:softmax:{temperature}"])


@pytest.mark.parametrize("rotation", [False, True], ids=["straight", "rotation"])
def test_simvq_equals_the_package(golden, rotation):
    g, tag = golden("retrieval/vq_lucidrains"), f"simvq_rot{int(rotation)}"
    module = quantize.make("simvq", 16, 6, rotation=rotation)
    variables = {
        "params": {"map": g[f"{tag}:transform_weight"].T},
        "codebook": {"frozen": g[f"{tag}:frozen_codebook"]},
    }
    params, grad, out, _ = gradients(module, variables, g["x0"], g["w"])
    np.testing.assert_array_equal(out.codes, g[f"{tag}:indices"])
    close(out.z, g[f"{tag}:quantized"])
    close(out.loss, g[f"{tag}:loss"])
    close(grad, g[f"{tag}:grad_x"])
    close(params["map"], g[f"{tag}:grad_transform"].T)


# ----------------------------------------------------------------------------------- running means


def test_three_updates_equal_haiku(golden):
    g = golden("retrieval/vq_haiku")
    module = quantize.make("ema", 12, 6)
    state = jax.jit(module.init)(jax.random.key(0), g["x0"])["codebook"]
    state["embedding"] = g["embeddings0_dim_by_codes"].T
    for i in range(3):
        key = f"ema:step{i}"
        variables = {"codebook": state}
        _, grad, out, changed = gradients(module, variables, g[f"x{i}"], g["w"], train=True)
        np.testing.assert_array_equal(out.codes, g[f"{key}:encoding_indices"])
        close(out.z, g[f"{key}:quantize"])
        close(out.loss, g[f"{key}:loss"])
        close(out.parts["perplexity"], g[f"{key}:perplexity"])
        close(grad, g[f"{key}:grad_x"])
        state = changed["codebook"]
        close(state["embedding"], g[f"{key}:state:vq:embeddings"].T)
        close(state["uses"], g[f"{key}:state:vq/~/ema_cluster_size:hidden"])
        close(state["sums"], g[f"{key}:state:vq/~/ema_dw:hidden"].T)
        assert state["updates"] == g[f"{key}:state:vq/~/ema_dw:counter"]


PACKAGE = {
    "ema_ste": ("ema", {"decay": 0.8, "beta": 1.0}),
    "ema_rotation": ("ema", {"decay": 0.99, "rotation": True}),
    "cosine_ste": ("cosine", {"decay": 0.8, "beta": 1.0}),
    "cosine_rotation": ("cosine", {"decay": 0.99, "beta": 1.0, "rotation": True}),
}


def package_state(g, normalize=False):
    table = g["embed0"]
    if normalize:
        table = table / np.linalg.norm(table, axis=-1, keepdims=True)
    return {"embedding": table, "uses": np.ones(16, np.float32), "sums": table}


@pytest.mark.parametrize("tag", PACKAGE)
def test_three_updates_equal_the_package(golden, tag):
    g, (form, settings) = golden("retrieval/vq_lucidrains"), PACKAGE[tag]
    module = quantize.make(form, 16, 6, dim=6, bias_correction=False, **settings)
    state = package_state(g, form == "cosine")
    for i in range(3):
        key = f"{tag}:step{i}"
        variables = {"codebook": state}
        _, grad, out, changed = gradients(module, variables, g[f"x{i}"], g["w"], train=True)
        np.testing.assert_array_equal(out.codes, g[f"{key}:indices"])
        close(out.z, g[f"{key}:quantized"])
        close(out.loss, g[f"{key}:loss"])
        close(grad, g[f"{key}:grad_x"])
        state = changed["codebook"]
        close(state["embedding"], g[f"{key}:embed_after"])
        close(state["uses"], g[f"{key}:cluster_size_after"])
        close(state["sums"], g[f"{key}:embed_avg_after"])
    out = evaluate(module, {"codebook": state}, g["x0"])
    np.testing.assert_array_equal(out.codes, g[f"{tag}:eval:indices"])
    close(out.z, g[f"{tag}:eval:quantized"])


def test_nothing_changes_where_the_collection_is_not_mutable(golden):
    g, tag = golden("retrieval/vq_lucidrains"), "no_ema_learnable_off"
    module = quantize.make("ema", 16, 6, beta=1.0, bias_correction=False)
    for i in range(3):
        out = module.apply({"codebook": package_state(g)}, g[f"x{i}"], train=True)
        np.testing.assert_array_equal(out.codes, g[f"{tag}:step{i}:indices"])
        close(out.loss, g[f"{tag}:step{i}:loss"])


# ------------------------------------------------------------------------------------------ Gumbel


@pytest.mark.parametrize("mode", ["train_hard", "train_soft", "eval"])
def test_gumbel_equals_taming(golden, mode, monkeypatch):
    g = golden("retrieval/taming_gumbel")
    # Width out is 5 there, and 6 in: a sixth channel of zeros changes nothing.
    table = np.pad(g["sd:embed.weight"], ((0, 0), (0, 1)))
    w = np.pad(g["w"].transpose(0, 2, 3, 1), ((0, 0), (0, 0), (0, 0), (0, 1)))
    proj = {"kernel": g["sd:proj.weight"][:, :, 0, 0].T, "bias": g["sd:proj.bias"]}
    variables = {"params": {"embedding": table, "proj": proj}}
    noise = g[f"{mode}:gumbel_noise"].transpose(0, 2, 3, 1)
    monkeypatch.setattr(jax.random, "gumbel", lambda rng, shape: jnp.asarray(noise))
    module = quantize.make("gumbel", 12, 6, kl=0.3, hard=mode != "train_soft", noisy=True)

    def value(params, z, tau):
        out = module.apply(
            {"params": params}, z, train=mode != "eval", temperature=tau,
            rngs={"quantize": jax.random.key(0)},
        )  # fmt: skip
        return jnp.sum(w * out.z) + out.loss, out

    z = g["z"].transpose(0, 2, 3, 1)
    step = jax.jit(jax.grad(value, (0, 1), has_aux=True))
    (params, grad), out = step(variables["params"], z, g[f"{mode}:tau"])
    np.testing.assert_array_equal(out.codes, g[f"{mode}:indices"])
    close(out.z[..., :5], g[f"{mode}:zq"].transpose(0, 2, 3, 1))
    close(out.loss, g[f"{mode}:kl"])
    close(grad, g[f"{mode}:grad_z"].transpose(0, 2, 3, 1))
    close(params["embedding"][:, :5], g[f"{mode}:grad_embed"])
    close(params["proj"]["kernel"], g[f"{mode}:grad_proj"][:, :, 0, 0].T)


# ---------------------------------------------------------------------------------- finite scalars

GRIDS = {"google": "google", "pytorch": "torch", "symmetric": "torch_symmetric"}


@pytest.mark.parametrize("grid", GRIDS)
def test_fsq_equals_the_originals(golden, grid):
    g, name = golden("retrieval/vq_fsq"), GRIDS[grid]
    for case in json.loads(str(g["cases"])):
        k, levels = case["case"], tuple(case["levels"])
        settings = {"levels": levels, "grid": grid}
        if f"{k}:{name}:codes" not in g:
            assert levels == (2, 3)
            assert grid == "pytorch"
            continue
        module = quantize.make("fsq", case["size"], len(levels), **settings)
        _, grad, out, _ = gradients(module, {}, g[f"{k}:z"], g[f"{k}:w"])
        np.testing.assert_array_equal(out.codes, g[f"{k}:{name}:indices"])
        close(out.z, g[f"{k}:{name}:codes"])
        close(grad, g[f"{k}:{name}:grad"])
        close(module.apply({}, out.codes, method="lookup"), g[f"{k}:{name}:codes"])
        if f"{k}:{name}:codebook" in g:
            close(module.apply({}, method="vectors"), g[f"{k}:{name}:codebook"])


LFQ = {
    "lfq": (64, {"beta": 0.0}),
    "lfq_commit_spherical": (64, {"spherical": True}),
    "lfq_proj": (16, {"diversity": 2.5, "clamp": 3.0}),
}


@pytest.mark.parametrize("tag", LFQ)
def test_lfq_equals_the_package(golden, tag):
    g, (codes, settings) = golden("retrieval/vq_lucidrains"), LFQ[tag]
    module = quantize.make("lfq", codes, 6, sharpness=10.0, **settings)
    variables = {"params": {}}
    for name in ("project_in", "project_out"):
        if f"{tag}:sd:{name}.weight" in g:
            kernel, bias = g[f"{tag}:sd:{name}.weight"].T, g[f"{tag}:sd:{name}.bias"]
            variables["params"][name] = {"kernel": kernel, "bias": bias}
    _, grad, out, _ = gradients(module, variables, g[f"{tag}:x"], g["w"], train=True)
    np.testing.assert_array_equal(out.codes, g[f"{tag}:indices"])
    close(out.z, g[f"{tag}:quantized"])
    close(module.apply(variables, out.codes, method="lookup"), g[f"{tag}:codes_from_indices"])
    close(out.loss, g[f"{tag}:aux_loss"])
    close(grad, g[f"{tag}:grad_x"])
    if module.beta:
        close(out.parts["distance"], g[f"{tag}:commitment"])
    # The package cuts chances at 1e-5 inside logarithms, which leaves 2.5e-5 of its entropies out.
    x = g[f"{tag}:x"].astype(np.float64)
    if tag == "lfq_proj":
        x = x @ g[f"{tag}:sd:project_in.weight"].T + g[f"{tag}:sd:project_in.bias"]
        x = np.tanh(x / 3.0) * 3.0
    if module.spherical:
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    for floor, per_choice, of_all in (
        (1e-5, g[f"{tag}:per_sample_entropy"], g[f"{tag}:batch_entropy"]),
        (1e-30, out.parts["choice_entropy"], out.parts["entropy"]),
    ):
        dense = dense_sign_entropies(x.reshape(-1, x.shape[-1]), 10.0, module.spherical, floor)
        close(dense[0], per_choice)
        close(dense[1], of_all)


def dense_sign_entropies(x, sharpness, spherical, floor):
    """Both entropies from the chances of all codes, float64."""
    bits = x.shape[1]
    signs = 2.0 * (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1] & 1) - 1.0
    signs = signs / np.sqrt(bits) if spherical else signs
    p = np.exp(2.0 * sharpness * (x @ signs.T - np.abs(x).sum(-1, keepdims=True) * signs.max()))
    p /= p.sum(-1, keepdims=True)
    entropy = lambda p: -np.sum(p * np.log(np.maximum(p, floor)), -1)  # noqa: E731
    return entropy(p).mean(), entropy(p.mean(0))


# ------------------------------------------------------------------------------------- placed anew


def test_dead_codes_are_the_packages(golden):
    g = golden("retrieval/vq_lucidrains")
    module = quantize.make("ema", 16, 6, decay=0.8, revive=1.0, bias_correction=False)
    state = package_state({"embed0": g["dead:embed0"]})
    rngs = {"quantize": jax.random.key(0)}
    _, changed = module.apply(
        {"codebook": state}, g["x0"], train=True, mutable=["codebook"], rngs=rngs
    )
    after, replaced = changed["codebook"], g["dead:replaced_mask"]
    assert 0 < replaced.sum() < 16
    rows = g["x0"].reshape(-1, 6)
    is_row = (after["embedding"][:, None] == rows[None]).all(-1).any(-1)
    np.testing.assert_array_equal(is_row, replaced)
    close(after["embedding"][~replaced], g["dead:embed_after"][~replaced])
    close(after["uses"], g["dead:cluster_size_after"])
    close(after["sums"][replaced], after["embedding"][replaced])
    # Rows that were picked differ: 40 vectors are enough for 16 codes.
    assert len(np.unique(after["embedding"], axis=0)) == 16


@pytest.mark.parametrize("tag", ["kmeans", "kmeans_cosine"])
def test_kmeans_equals_the_package(golden, tag):
    g = golden("retrieval/vq_lucidrains")
    x = g["x0"].reshape(-1, 6)
    if tag == "kmeans_cosine":
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    means, counts = search.kmeans(x, x[:16], 4, normalize=tag == "kmeans_cosine")
    close(means, g[f"{tag}:means_after_4"])
    np.testing.assert_array_equal(counts, g[f"{tag}:bins"])
