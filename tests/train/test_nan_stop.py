"""NaN stops the run with step, phase and net named; the last good checkpoint stays; skipping."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import checkpoint_arrays, run, tiny

from jaxgen.tasks.sr.losses import SRLosses
from jaxgen.train.tally import NonFiniteError
from jaxgen.weights.checkpoints import complete_steps, read_metrics


def poison(monkeypatch, at: int, where: str = "pretrain", until: int | None = None):
    """Makes a loss infinite from step `at` (up to `until`)."""
    original = getattr(SRLosses, where)

    def poisoned(self, params, mutable, frozen, batch, rng, step):
        value, rest = original(self, params, mutable, frozen, batch, rng, step)
        bad = step >= at if until is None else (step >= at) & (step < until)
        return jnp.where(bad, jnp.inf, 1.0) * value, rest

    monkeypatch.setattr(SRLosses, where, poisoned)


def test_run_stops_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    poison(monkeypatch, at=3)
    with pytest.raises(NonFiniteError) as caught:
        run(tiny(train__steps=40, train__checkpoint_every=2, model__pretrain_steps=40), tmp_path)
    message = str(caught.value)
    assert "loss of phase 'pretrain'" in message
    assert "at step 3;" in message
    assert "last good checkpoint is step 2" in message
    assert "\n" not in message
    assert complete_steps(tmp_path) == [2]
    assert all(np.isfinite(v).all() for v in checkpoint_arrays(tmp_path, 2).values())


def test_gradient_of_one_net_is_named(tmp_path, monkeypatch):
    @jax.custom_jvp
    def trap(x):
        return x

    trap.defjvp(lambda primals, tangents: (primals[0], tangents[0] * jnp.nan))
    original = SRLosses.discriminate

    def poisoned(self, *args):
        value, rest = original(self, *args)
        return trap(value), rest

    monkeypatch.setattr(SRLosses, "discriminate", poisoned)
    with pytest.raises(NonFiniteError, match=r"gradient of net 'd' of phase 'd' .* at step 4"):
        run(tiny(train__steps=8), tmp_path)


def test_skipping_leaves_the_state_and_counts(tmp_path, monkeypatch):
    poison(monkeypatch, at=2, until=3)
    config = {"train__steps": 4, "model__pretrain_steps": 40, "train__max_skips": 2}
    run(tiny(**config), tmp_path)
    arrays = checkpoint_arrays(tmp_path, 4)
    assert all(np.isfinite(v).all() for v in arrays.values())
    (count,) = (v for k, v in arrays.items() if re.match(r"opt/pretrain/(1/)?0/count", k))
    assert int(count) == 3  # Adam saw three of the four steps
    logged = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert [line.get("skipped_updates") for line in logged] == [None, 1.0]
    assert all(np.isfinite(line["pretrain/loss"]) for line in logged)


def test_too_many_skips_stop(tmp_path, monkeypatch):
    poison(monkeypatch, at=2)
    config = {"train__steps": 9, "model__pretrain_steps": 40, "train__max_skips": 1}
    with pytest.raises(NonFiniteError, match="at step 2"):
        run(tiny(**config), tmp_path)


def test_debug_finds_the_operation(tmp_path, monkeypatch):
    from jaxgen.train import loop

    poison(monkeypatch, at=0)
    try:
        with pytest.raises(FloatingPointError):
            loop.train(tiny(train__steps=1), tmp_path, debug=True, devices=jax.devices()[:1])
    finally:
        jax.config.update("jax_disable_jit", False)
        jax.config.update("jax_debug_nans", False)
        jax.config.update("jax_debug_infs", False)
