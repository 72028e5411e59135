"""Salt and pepper as an augmentation, and why it is no diffusion's noise: docs/noise.md's numbers.

`pytest -s tests/data/test_noise.py` prints them.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.data.captioned import section
from jaxgen.data.captioned.examples import MakePicture
from jaxgen.data.noise import salt_and_pepper
from jaxgen.diffusion import sampling
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.schedules import Schedule

GREY = np.full((200, 200, 3), 90, np.uint8)
# Pixels of the toy: a dark one in three of ten, a light one in seven.
VALUES, SHARES = np.array([-0.5, 0.5]), np.array([0.3, 0.7])


def test_share_and_kinds():
    noisy = salt_and_pepper(GREY, 0.2, np.random.default_rng(0))
    assert (GREY == 90).all()
    values, counts = np.unique(noisy[..., 0], return_counts=True)
    np.testing.assert_array_equal(values, [0, 90, 255])
    np.testing.assert_allclose(counts / counts.sum(), [0.1, 0.8, 0.1], atol=0.01)
    assert (noisy == noisy[..., :1]).all()


@pytest.mark.parametrize("amount", [0.0, 1.0])
def test_ends(amount):
    noisy = salt_and_pepper(GREY, amount, np.random.default_rng(0))
    assert (noisy == 90).mean() == 1 - amount


def test_it_is_an_augmentation_of_captioned_pictures():
    data = section.defaults()
    record = {"image": GREY[:32, :32]}
    plain = MakePicture(data)
    data.salt_pepper = 0.5
    made = MakePicture(data)
    seen = [
        (made(record, np.random.default_rng(i))["image"] != 90).any(axis=-1).mean()
        for i in range(40)
    ]
    assert 10 < sum(share > 0 for share in seen) < 30
    np.testing.assert_allclose(max(seen), 0.5, atol=0.1)
    np.testing.assert_array_equal(plain(record, np.random.default_rng(0))["image"], GREY[:32, :32])
    del data.salt_pepper  # a run of before the key
    np.testing.assert_array_equal(
        MakePicture(data)(record, np.random.default_rng(1))["image"], GREY[:32, :32]
    )


def drawn(mean_of_x0, first):
    """What DDIM makes of it with the best net that there can be, which says the mean of x0."""
    plan = make_plan(Schedule(zero_snr=True), "x0", "ddim", 50)
    alpha = jnp.asarray(np.sqrt(Schedule(zero_snr=True).alphas_cumprod), jnp.float32)

    def denoise(x, t):
        level = alpha[t.astype(int)][:, None]
        return mean_of_x0(x, level)

    return np.asarray(sampling.sample(denoise, plan, jnp.asarray(first, jnp.float32)))


def test_gaussian_noise_gives_the_data_back_and_salt_and_pepper_does_not():
    rng = np.random.default_rng(0)

    def of_gaussian(x, alpha):
        sigma = jnp.sqrt(1 - alpha**2)
        near = [-((x - alpha * v) ** 2) / (2 * sigma**2) for v in VALUES]
        odds = [share * jnp.exp(n - near[1]) for share, n in zip(SHARES, near, strict=True)]
        dark = odds[0] / (odds[0] + odds[1])
        return dark * VALUES[0] + (1 - dark) * VALUES[1]

    def of_salt_and_pepper(x, alpha):
        # A pixel that is neither black nor white is seen as it is; of others nothing is known.
        seen = jnp.abs(x) < 0.999
        return jnp.where(seen, x, float(SHARES @ VALUES))

    gaussian = drawn(of_gaussian, rng.standard_normal((1, 20_000)))
    impulse = drawn(of_salt_and_pepper, rng.choice([-1.0, 1.0], (1, 20_000)))
    light = (np.abs(gaussian - 0.5) < 0.1).mean(), (np.abs(gaussian + 0.5) < 0.1).mean()
    off = np.abs(np.abs(impulse) - 0.5).min()
    print(f"Gaussian: {light[0]:.1%} light, {light[1]:.1%} dark; of the data 70 % and 30 %")
    print(f"salt and pepper: values {np.unique(impulse.round(2))}, none within {off:.2f} of any")
    np.testing.assert_allclose(light, SHARES[::-1], atol=0.02)
    assert off > 0.1  # no pixel is one that the data have


def test_only_gaussian_noise_keeps_what_the_loss_is_made_of():
    """x_t = alpha x0 + sigma eps, with eps of mean 0 and variance 1 whatever x0 is."""
    rng = np.random.default_rng(1)
    kept = 0.5
    for x0 in (-0.9, 0.0, 0.9):
        eps = rng.standard_normal(400_000)
        clipped = np.clip(np.sqrt(kept) * x0 + np.sqrt(1 - kept) * eps, -1, 1)
        after_clip = (clipped - np.sqrt(kept) * x0) / np.sqrt(1 - kept)
        replaced = rng.random(400_000) < 1 - np.sqrt(kept)  # the same mean: sqrt(kept) x0
        impulse = np.where(replaced, rng.choice([-1.0, 1.0], 400_000), x0)
        as_eps = (impulse - np.sqrt(kept) * x0) / np.sqrt(1 - kept)
        kinds = {"Gaussian": eps, "clipped": after_clip, "salt and pepper": as_eps}
        said = [f"{n} {v.mean():+.2f} {v.var():.2f}" for n, v in kinds.items()]
        print(f"x0 {x0:+.1f}: mean and variance of eps: {'; '.join(said)}")
        assert abs(eps.mean()) < 0.01
        assert abs(eps.var() - 1) < 0.01
        assert abs(after_clip.var() - 1) > 0.2
        assert abs(as_eps.var() - 1) > 0.05
