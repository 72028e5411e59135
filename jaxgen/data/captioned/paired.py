"""Pictures of one thing beside as many of its class (DreamBooth, Ruiz et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgen.data.captioned.source import Records

PRIOR = "prior_"  # before the names of what an example holds of the class
Make = Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]


class MakePaired:
    """One record -> its example, and under names with `PRIOR` one of the class, which is drawn.

    So a batch holds as many of one as of the other, however many pictures there are.

    Args:
      make: of the record. records, make_class: of the class.
    """

    def __init__(self, make: Make, records: Records, make_class: Make):
        self.make, self.records, self.make_class = make, records, make_class

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        example = self.make(record, rng)
        other = self.records[int(rng.integers(len(self.records)))]
        of_class = self.make_class(other, rng)
        return {**example, **{f"{PRIOR}{key}": value for key, value in of_class.items()}}
