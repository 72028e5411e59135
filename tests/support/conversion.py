"""What the tests of `jaxgen convert` share."""

from __future__ import annotations

import numpy as np


def assert_same_bits(a, b):
    """Flat dicts of arrays with the same names and the same bits."""
    assert a.keys() == b.keys()
    assert not [k for k in a if np.asarray(a[k]).tobytes() != np.asarray(b[k]).tobytes()]
