"""jaxgen.evaluation.clip_judge: what known features say, and the command."""

from types import SimpleNamespace

import numpy as np
import pytest

from jaxgen.errors import UserError
from jaxgen.evaluation.clip_judge import ClipJudge

COUNT = 120


def known(wrong=()):
    """Features by number: each picture is its own text's, the wrong ones another's."""
    basis = np.eye(COUNT, dtype=np.float32)
    seen = []

    def pictures(images):
        seen.append(len(images))
        rows = [int(image[0, 0, 0]) for image in images]
        return basis[[(row + 1) % COUNT if row in wrong else row for row in rows]].reshape(
            -1, COUNT
        )

    texts = lambda said: basis[[int(one) for one in said]]  # noqa: E731
    return SimpleNamespace(name="known", pictures=pictures, texts=texts, seen=seen)


def judged(clip):
    judge = ClipJudge(clip, range(COUNT))
    for i in range(COUNT):
        judge.see(str(i), np.full((2, 2, 3), i, np.uint8))
    return judge.scores()


def test_pictures_of_their_own_captions_are_perfect():
    clip = known()
    assert judged(clip) == {"score": 1.0, "r_precision": 1.0, "r_precision_std": 0.0}
    assert sum(clip.seen) == COUNT
    assert max(clip.seen) < COUNT, "pictures are not kept"


def test_pictures_of_other_captions_count_against_it():
    found = judged(known(wrong=range(30)))
    assert found["score"] == pytest.approx(0.75)
    assert found["r_precision"] == pytest.approx(0.75)
    assert found["r_precision_std"] > 0


def test_too_few_captions_are_refused_before_anything_is_drawn():
    with pytest.raises(UserError, match="R-precision with 99 wrong captions: only 0 have another"):
        ClipJudge(known(), [7] * COUNT)
