"""Memory that can't suffice is said before anything is compiled."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as configs
from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.train import loop


def test_a_network_that_does_not_fit_is_refused_before_compiling(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_available", lambda: 1 << 20)
    with pytest.raises(UserError, match=r"averages need .* of memory, and 1 MB are free"):
        loop.train(configs.load("configs/srgan.py:tiny"), tmp_path)


def test_a_model_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "_available", lambda: 100 << 20)
    nets = devices.Placed({"g": {"params": {"w": np.zeros(3, np.float32)}}})
    with pytest.raises(UserError, match="'g' and a program for it need 256 MB of memory, and 100"):
        nets["g"]


def test_a_limit_of_the_process_counts(monkeypatch):
    import resource

    monkeypatch.setattr("jaxgen.heap.kept", lambda: 0)
    free = devices._available()
    limit = free / 2 + int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (int(limit), -1))
    assert devices._available() < 0.6 * free


def test_what_a_gradient_keeps_is_counted_without_computing():
    """Of a checkpoint what it begins with."""
    kernel, x = jnp.ones((50, 50)), jax.ShapeDtypeStruct((7, 50), jnp.float32)

    def layer(x):
        return jnp.tanh(x @ kernel)

    assert devices.held(layer, x) >= 4 * (50 * 50 + 7 * 50)
    assert devices.held(jax.checkpoint(lambda x: layer(layer(layer(x)))), x) == 4 * (50 * 50 + 350)
