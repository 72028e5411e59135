"""Averages of weights: warm-up as published; any length afterwards against the direct one."""

from __future__ import annotations

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.weights import averages
from jaxgen.weights.averages import Profile


def test_warm_up_equals_the_published_form(fixtures_dir):
    with np.load(fixtures_dir / "diffusion" / "training_targets.npz") as file:
        params, decays = file["ema_params"], file["ema_default_decay"]
        theirs = file["ema_default"]
    average = params[0]
    for n, now in enumerate(params[1:]):
        decay = averages.ramp(float(n)) if n else 0.0  # theirs begins with a copy
        assert np.isclose(decay, decays[n], rtol=1e-6)
        average = decay * average + (1 - decay) * now
        np.testing.assert_allclose(average, theirs[n], rtol=1e-5, atol=1e-6)


def test_widths_are_the_published_exponents():
    assert averages.gamma_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert averages.gamma_of(0.10) == pytest.approx(6.94, abs=0.005)
    for width in (0.0, 0.3, -0.1, float("nan")):
        with pytest.raises(UserError, match="relative width"):
            averages.gamma_of(width)


def path(steps):
    """Weights as training has them: a fall, and noise around it."""
    rng = np.random.default_rng(0)
    t = np.arange(1, steps + 1)[:, None]
    return np.exp(-t / steps * [1.0, 3.0, 0.2]) + 0.1 * rng.standard_normal((steps, 3))


def direct(values, width):
    """The average by its definition: all steps, weighted by the integral of tau^gamma."""
    gamma = averages.gamma_of(width)
    edges = np.arange(len(values) + 1) / len(values)
    weights = np.diff(edges ** (gamma + 1))
    return weights @ values


@pytest.mark.parametrize("width", [0.03, 0.05, 0.075, 0.12, 0.15, 0.2])
def test_any_length_afterwards(width):
    """From 2 x 16 snapshots, in float32: 2 % of what the nearest average that was kept is off."""
    values = path(1600)
    gammas = [averages.gamma_of(w) for w in averages.WIDTHS]
    running, kept, taken = [np.zeros(3), np.zeros(3)], [], []
    for n, now in enumerate(values, 1):
        for k, gamma in enumerate(gammas):
            old = (1 - 1 / n) ** (gamma + 1)
            running[k] = old * running[k] + (1 - old) * now
            if n % 100 == 0:
                kept.append(Profile(n, gamma))
                taken.append(running[k].astype(np.float32))
    factors = averages.reconstruct(kept, Profile(len(values), averages.gamma_of(width)))
    ours = factors @ np.stack(taken)
    truth = direct(values, width)
    nearest = min(np.abs(direct(values, w) - truth).max() for w in averages.WIDTHS if w != width)
    assert np.abs(ours - truth).max() < 0.02 * nearest
    assert factors.sum() == pytest.approx(1, abs=1e-9)  # what never changed stays as it is


def test_a_snapshot_is_reconstructed_exactly():
    kept = [Profile(step, 6.94) for step in (100, 200, 300)]
    np.testing.assert_allclose(averages.reconstruct(kept, kept[1]), [0, 1, 0], atol=1e-9)
    with pytest.raises(UserError, match="no snapshots"):
        averages.reconstruct([], kept[0])
