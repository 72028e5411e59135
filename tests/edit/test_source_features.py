"""MasaCtrl and plug-and-play equal the originals."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.diffusion import assert_near, golden
from support.editing import golden_editing, latents

from jaxgen.models.ldm.edit import masactrl, plug_and_play
from jaxgen.models.ldm.edit.inversion import direct, inverse
from jaxgen.models.ldm.edit.inverted import Inverted


@pytest.mark.parametrize(
    "case", ["mask", *(pytest.param(c, marks=pytest.mark.slow) for c in ("plain", "off"))]
)
def test_masactrl(fixtures_dir, case):
    file = golden(fixtures_dir, "masactrl")
    meta = json.loads(str(file["meta"]))
    steps = meta["steps"]
    editing, nets, shared = golden_editing(fixtures_dir, 16, file["uncond"], steps)
    masks = (file["mask_s"][None], file["mask_t"][None]) if case == "mask" else None
    first = steps if case == "off" else meta["start_step"]

    @jax.jit
    def program(nets):
        return masactrl.edit(
            editing, nets, shared, Inverted(jnp.asarray(latents(file["x_T"]))),
            {"context": file["context"]}, (1, 2), first_step=first,
            first_layer=meta["start_layer"], masks=masks,
        )  # fmt: skip

    assert_near(program(nets)[0], latents(file[case]), 1e-4)


@pytest.mark.parametrize(
    "case", ["edit_direct", pytest.param("edit_noinject", marks=pytest.mark.slow)]
)
def test_plug_and_play(fixtures_dir, case):
    file = golden(fixtures_dir, "pnp_features")
    meta = json.loads(str(file["meta"]))
    steps = meta["steps"]
    editing, nets, shared = golden_editing(fixtures_dir, 16, file["neg"], steps)
    shared["inverse"] = inverse(shared["plan"], editing, steps)
    shares = (0, 0) if case == "edit_noinject" else (8, 5)

    @jax.jit
    def program(nets):
        source = {"context": jnp.asarray(file["source"])[None]}
        found = direct(editing, nets, shared, {}, jnp.asarray(latents(file["x0"])), source)
        asked = {"context": jnp.stack([jnp.zeros((77, 32)) + file["guide"], file["target"]])}
        x = plug_and_play.edit(editing, nets, shared, found, asked, (1, 2), steps=shares)
        return found, x

    found, x = program(nets)
    assert_near(found.noise, latents(file["inv"])[-1], 1e-4)
    theirs = latents(file[case])
    assert_near(x[0, 1], theirs.reshape(-1, *theirs.shape[-3:])[-1], 1e-4)
    assert np.isfinite(np.asarray(x)).all()
