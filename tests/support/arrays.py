"""Arrays that should be equal but for rounding."""

import numpy as np


def close(got, expected, tolerance=1e-5):
    """Within `tolerance` of the expected array's scale."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    assert np.max(np.abs(got - expected)) <= tolerance * max(np.max(np.abs(expected)), 1e-3)
