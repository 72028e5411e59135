"""A photo of twelve megapixels is enlarged by four within four gigabytes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LARGE = """
import resource, sys
import jax, jax.numpy as jnp, numpy as np, flax.linen as nn
from jaxgen.data.picture_files import write_image
from jaxgen.verbs.upscale import tiling
from jaxgen.verbs.upscale.contract import Upscale

class Net(nn.Module):  # as wide as SRResNet where memory is used
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        x = nn.Conv(1024, (1, 1))(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, 4, 4, 64).transpose(0, 1, 3, 2, 4, 5).reshape(b, 4 * h, 4 * w, 64)
        return nn.tanh(nn.Conv(3, (1, 1))(nn.relu(x)))

net = Net()
variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
verb = Upscale(("g",), lambda nets, x, given: net.apply(nets["g"], x), 4, radius=40)
# Smooth, with some noise: compressible as photos are.
y, x = np.mgrid[:3000, :4000]
photo = np.stack([x * 255 // 4000, y * 255 // 3000, (x + y) % 256], axis=-1).astype(np.uint8)
del x, y
result = tiling.upscale_image(verb, {"g": variables}, photo)
assert result.shape == (12000, 16000, 3), result.shape
write_image(sys.argv[1], result)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_twelve_megapixels_times_four_within_four_gigabytes(tmp_path):
    root = Path(__file__).resolve().parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LARGE), str(tmp_path / "large.png")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1]) * 1024
    print(f"peak {peak / 2**30:.2f} GiB")
    assert peak < 4 * 2**30
    assert (tmp_path / "large.png").stat().st_size > 1e6
