"""Prompt-to-Prompt equals the original's controllers, its blend and its pictures step by step."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.diffusion import assert_near, golden
from support.editing import golden_editing, golden_spelled, latents

from jaxgen.data.text.clip_bpe import read_tokenizer
from jaxgen.edit import prompt_to_prompt as p2p
from jaxgen.edit import words
from jaxgen.models.ldm.edit import prompt_to_prompt as method
from jaxgen.models.ldm.edit.inverted import Inverted

N = 77


def tables(file, case, mapper, steps, self_steps, equalizer=None):
    """Tables of one picture from a golden case's own."""
    t = len(mapper)
    if mapper.ndim == 2:
        taken = file[f"{case}:alphas"].astype(np.float32)
        mapper = np.stack([words.as_matrix(row) for row in mapper])
    else:
        taken = np.ones((t, N), np.float32)
    weight = (
        np.ones((t, N), np.float32) if equalizer is None else np.broadcast_to(equalizer, (t, N))
    )
    when = file[f"{case}:cross_alpha"][:steps].astype(np.float32)
    made = p2p.Tables(mapper, taken, weight, when, np.array(self_steps, np.int32))
    return jax.tree.map(lambda a: jnp.asarray(a)[None], made)


def shares(bounds, steps):
    return words.span(tuple(bounds) if isinstance(bounds, list) else bounds, steps)


SLOW = (
    "none", "replace", "replace_self64", "refine", "reweight", "replace_blend",
    "multi_replace_words",
)  # fmt: skip
CASES = ["make_controller", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize("case", CASES)
def test_pictures_equal_the_original_s(fixtures_dir, case):
    file = golden(fixtures_dir, "p2p_end2end")
    meta = json.loads(str(file["meta"]))
    about, steps = meta["cases"][case], meta["steps"]
    editing, nets, shared = golden_editing(fixtures_dir, meta["L"], file["uncond"], steps)
    np.testing.assert_array_equal(shared["plan"].times[:steps], file["timesteps"])
    context = file[f"{case}:context"]
    r = len(context)
    made, blend = None, None
    if case != "none":
        mapper = file.get(f"{case}:mapper", np.eye(N)[None])
        equalizer = file.get(f"{case}:equalizer")
        made = tables(file, case, mapper, steps, shares(about["self"], steps), equalizer)
    if f"{case}:blend_words" in file:
        blend = blend_of(file[f"{case}:blend_words"], np.zeros((r, N)), 0.3, 0.3, 2)
    x = run(editing, nets, shared, file["x_T"], context, made, blend, about.get("self_limit", 0))
    assert_near(x, latents(file[f"{case}:x"][-1]), 1e-4)


def blend_of(marks, without, above, without_above, first):
    made = method.Blend(
        np.float32(marks), np.float32(without), np.float32(above), np.float32(without_above),
        np.int32(first),
    )  # fmt: skip
    return jax.tree.map(lambda a: jnp.asarray(a)[None], made)


def run(editing, nets, shared, noise, context, made, blend, largest):
    @jax.jit
    def program(nets, made, blend):
        return method.edit(
            editing, nets, shared, Inverted(jnp.asarray(latents(noise))), {"context": context},
            (1, len(context)), made, blend, largest=largest,
        )[0]  # fmt: skip

    return program(nets, made, blend)[0]


@pytest.mark.parametrize("case", [pytest.param("blend", marks=pytest.mark.slow), "blend_sub"])
def test_local_blend_equals_the_original_s(fixtures_dir, case):
    file = golden(fixtures_dir, "p2p_end2end_blend")
    meta = json.loads(str(file["meta"]))
    steps = meta["steps"]
    editing, nets, shared = golden_editing(fixtures_dir, 32, file["uncond"], steps)
    made = tables(file, "blend", file["blend:mapper"], steps, shares(meta["self"], steps))
    without = file[f"{case}:substruct_words"] if case == "blend_sub" else np.zeros((2, N))
    blend = blend_of(
        file["blend:blend_words"], without, *meta["th"], meta["start_blend_steps"]
    )  # fmt: skip
    x = run(editing, nets, shared, file["x_T"], file["context"], made, blend, meta["self_limit"])
    assert_near(x, latents(file[f"{case}:x"][-1]), 1e-4)


def test_masks_of_words_at_their_true_size(fixtures_dir):
    file = golden(fixtures_dir, "p2p_localblend")
    meta = json.loads(str(file["meta"]))
    heads = meta["heads"]
    # (prompts * heads, places, tokens) of five layers -> the mean over layers and heads.
    maps = np.stack([file[f"map_{i}"] for i in range(5)]).astype(np.float32) / 16
    maps = maps.reshape(5, 2, heads, 256, N).mean(axis=(0, 2))[None]
    x = latents(file["x_q"].astype(np.float32) / 16)[None]
    marks = file["alpha_layers"].astype(np.float32)[None]
    nothing = np.zeros_like(marks)
    without = np.zeros_like(marks)
    without[0, [0, 1], [7, 9]] = 1  # mirror, in each of the two
    for name, th, sub in (
        ("plain", (0.3, 0.3), nothing), ("th", (0.5, 0.5), nothing), ("sub", (0.3, 0.6), without),
        ("start", (0.3, 0.3), nothing),
    ):  # fmt: skip
        mask = p2p.blend_mask(maps, marks, sub, (16, 16), (64, 64), th)
        np.testing.assert_array_equal(mask[0, ..., 0], file[f"{name}:mask"][:, 0], err_msg=name)
        theirs = latents(file[f"{name}:y_q"].astype(np.float32) / 16)
        np.testing.assert_array_equal(p2p.blended(x, mask)[0], theirs, err_msg=name)


def test_the_blend_begins_at_the_original_s_call(fixtures_dir, data_dir):
    file = golden(fixtures_dir, "p2p_localblend")
    meta = json.loads(str(file["meta"]))
    tokenizer = read_tokenizer(data_dir / "weights" / "bpe_simple_vocab_16e6.txt.gz")
    start, end = tokenizer.encode("").tokens[:2]
    spelled = tuple(
        golden_spelled(text, tokenizer, [start, *tokenizer.ids(text), end])
        for text in meta["prompts"]
    )
    settings = {
        "blend": "cat:hippopotamus", "blend_without": "", "blend_above": 0.3,
        "blend_without_above": 0.3, "blend_from": 0.3,
    }  # fmt: skip
    editing = SimpleNamespace(tokens=N, lead=0)
    blend = method.make_blend(editing, spelled, settings, meta["num_steps"])
    np.testing.assert_array_equal(blend.words, file["alpha_layers"])
    acts = file["start:call_active"]
    np.testing.assert_array_equal(np.arange(len(acts)) >= blend.first, acts)


@pytest.mark.parametrize(
    "kind", ["replace", "refine", "reweight", "replace+reweight", "refine+reweight"]
)
def test_controllers_equal_the_original_s(fixtures_dir, data_dir, kind):
    file = golden(fixtures_dir, "p2p_controllers")
    meta = json.loads(str(file["meta"]))
    heads, steps = meta["heads"], meta["steps"]
    tokenizer = read_tokenizer(data_dir / "weights" / "bpe_simple_vocab_16e6.txt.gz")
    start, end = tokenizer.encode("").tokens[:2]
    source, target = (
        golden_spelled(text, tokenizer, [start, *tokenizer.ids(text), end])
        for text in meta["prompts"]
    )
    mapper, taken = np.eye(N), np.ones(N)
    if kind.startswith("replace"):
        mapper = words.original_replacement(source, target, N)
    elif kind.startswith("refine"):
        index, taken = words.original_refinement(source.ids, target.ids, N)
        mapper = words.as_matrix(index)
    weight = file["equalizer"][0] if "reweight" in kind else np.ones(N)
    spans = {
        word.replace("default_", ""): tuple(x) if isinstance(x, list) else x
        for word, x in meta["cross_replace_steps"].items()
    }
    when = words.replaced_when(target, spans, steps, N, original=True)
    window = shares(meta["self_replace"].get(kind, meta["self_replace"]["others"]), steps)
    made = jax.tree.map(
        lambda a: jnp.asarray(a)[None],
        p2p.Tables(mapper[None], taken[None], weight[None], when[:, None], np.array(window)),
    )
    found = {}
    for step in range(steps):
        for layer in range(4):
            logit = file[f"logit_{step}_{layer}"].astype(np.float32) / 4
            maps = jax.nn.softmax(logit, axis=-1).reshape(2, 2, heads, *logit.shape[1:])[1][None]
            change = p2p.edit_self if layer % 2 == 0 else p2p.edit_cross
            found[step, layer] = change(maps, made, jnp.asarray(step))[0, 1]
    for layer in range(4):
        # The original's store adds the later steps to the first one's arrays, in place.
        total = sum(found[step, layer] for step in range(steps))
        assert_near(total, file[f"{kind}:0_{layer}"], 1e-5)
        for step in (2, 3):
            assert_near(found[step, layer], file[f"{kind}:{step}_{layer}"], 1e-5)
