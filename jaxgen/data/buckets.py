"""Pictures of mixed shapes in batches of one shape each (aspect-ratio buckets).

A bucket is a height and a width, multiples of a step, of about the same area; a picture belongs to
the one whose ratio of sides is nearest to its own, is scaled to cover it, and cut. After NovelAI's
"Improvements on Stable Diffusion" (2022); here every picture comes equally often, whatever its
bucket's size.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxgen.data.picture_files import image_size
from jaxgen.data.resize import imresize
from jaxgen.errors import UserError

Shape = tuple[int, int]  # height, width
ENDLESS = 2**50  # places of a stream that never ends


def shapes(size: int, ratio: float, step: int) -> tuple[Shape, ...]:
    """The buckets: sides that are multiples of `step`, as large as `size`² pixels allow.

    Args: ratio: of the longer side to the shorter, at most.

    Returns: by their width.
    """
    found = set()
    for first in range(step, math.ceil(size * math.sqrt(ratio)) + 1, step):
        second = size * size // first // step * step
        if second and max(first, second) <= ratio * min(first, second):
            found |= {(first, second), (second, first)}
    if size % step == 0:
        found.add((size, size))
    return tuple(sorted(found, key=lambda shape: (shape[1], shape[0])))


def nearest(buckets: Sequence[Shape], height: int, width: int) -> Shape:
    """The bucket of a picture: that of the nearest ratio of sides; of equal ones the largest."""
    return min(
        buckets,
        key=lambda b: (abs(math.log(b[1] * height / (b[0] * width))), -b[0] * b[1]),
    )


def of_files(paths: Sequence[str], size: int, ratio: float, step: int) -> tuple[Shape, ...]:
    """Each picture's bucket by what its header says.

    Args: size, ratio, step: as of `shapes`.

    Raises:
      UserError: no bucket is possible, or a header cannot be read.
    """
    possible = shapes(size, ratio, step)
    if not possible:
        raise UserError(
            f"data.size={size} holds no picture whose sides are multiples of "
            f"data.bucket_step={step}: set a smaller step"
        )
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(image_size, paths))
    return tuple(nearest(possible, *one) for one in sizes)


def cover(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture scaled to just cover height x width (MATLAB bicubic); itself if it does."""
    rows, columns = image.shape[:2]
    if height * columns >= width * rows:
        size = (height, max(width, round(columns * height / rows)))
    else:
        size = (max(height, round(rows * width / columns)), width)
    return image if size == (rows, columns) else imresize(image, size=size)


class Stream:
    """The endless order of records in which every batch is of one bucket: `[place]` -> record.

    A round shows each bucket's batches as often as it has pictures for them; what is left over
    counts in the next. Within a bucket the pictures are shuffled anew whenever all were shown. A
    function of the place and the arguments alone.

    Args:
      records: random access, the same on all hosts.
      buckets: of each record, anything that can be compared.
      batch_size: global. seed: of both orders.
    """

    def __init__(self, records: Any, buckets: Sequence[Shape], batch_size: int, seed: int):
        self._records, self._batch, self._seed = records, batch_size, seed
        kinds = sorted(set(buckets))
        at = np.array([kinds.index(bucket) for bucket in buckets])
        self._members = [np.flatnonzero(at == kind) for kind in range(len(kinds))]
        self._last = (-1, 0, 0)  # a batch, its bucket and its number: examples come in order

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, place: int) -> Any:
        return self._records[self.record(range(ENDLESS)[place])]

    def record(self, place: int) -> int:
        """The number of the record at a place of the stream."""
        batch, offset = divmod(place, self._batch)
        last = self._last
        if last[0] != batch:
            last = self._last = (batch, *self._batch_of(batch))
        _, kind, number = last
        members = self._members[kind]
        turn, at = divmod(number * self._batch + offset, len(members))
        return int(members[_order(self._seed, kind, turn, len(members))[at]])

    def _batch_of(self, batch: int) -> tuple[int, int]:
        """(bucket, number among the bucket's batches) of a batch."""
        lengths = [len(members) for members in self._members]
        # About as many rounds as all pictures fill batches; bucket by bucket a little fewer.
        low = batch * self._batch // sum(lengths)
        high = (batch + len(lengths) + 1) * self._batch // sum(lengths) + 2
        turn = bisect.bisect_right(range(low, high), batch, key=self._before) + low - 1
        counts = [(turn + 1) * n // self._batch - turn * n // self._batch for n in lengths]
        kinds = np.repeat(np.arange(len(lengths)), counts)
        shown = kinds[_order(self._seed, -1, turn, len(kinds))]
        at = batch - self._before(turn)
        kind = int(shown[at])
        earlier = turn * lengths[kind] // self._batch
        return kind, earlier + int(np.count_nonzero(shown[:at] == kind))

    def _before(self, turn: int) -> int:
        """Batches of all rounds before this one."""
        return sum(turn * len(members) // self._batch for members in self._members)


@functools.lru_cache(maxsize=64)
def _order(seed: int, kind: int, turn: int, count: int) -> np.ndarray:
    """A permutation of `count`; kind -1: of a round's batches."""
    return np.random.default_rng((seed, kind + 1, turn)).permutation(count)
