"""jaxgen.metrics.recall."""

import numpy as np

from jaxgen.metrics.recall import recall


def test_counts_queries_with_a_right_answer_among_the_nearest():
    likeness = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.3], [0.6, 0.5, 0.4]])
    right = np.eye(3, dtype=bool)
    assert recall(likeness, right, (1, 2, 3, 9)) == {1: 2 / 3, 2: 2 / 3, 3: 1.0, 9: 1.0}
    right[2, 0] = True  # a second answer
    assert recall(likeness, right, (1,)) == {1: 1.0}
    right[0] = False  # a query without one
    assert recall(likeness, right, (3,)) == {3: 2 / 3}


def test_equal_likeness_goes_by_index():
    assert recall(np.ones((2, 2)), np.eye(2, dtype=bool), (1,)) == {1: 0.5}
