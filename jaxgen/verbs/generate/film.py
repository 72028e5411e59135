"""How pictures come about: what the net had in mind after each of some steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from jaxgen.grid import enlarge
from jaxgen.verbs.generate.stepwise import Watch

PARTS = 10  # of a drawing where only its progress is told
GAP = 2  # pixels between two frames of a strip


class Film:
    """Looks on while pictures are drawn and keeps what it saw of each.

    Args:
      frames: of each picture, the last of them the picture itself; 0: none are kept.
      moved: called as moved(calls done, calls in all) after each part of a batch.
    """

    def __init__(self, frames: int, moved: Callable[[int, int], None]):
        self.frames, self._moved = frames, moved
        self._batch: list[np.ndarray] = []
        self._done: deque[list[np.ndarray]] = deque()
        self.watch = Watch(frames or PARTS, self._seen)

    def _seen(self, done: int, calls: int, look: Callable[[], np.ndarray]) -> None:
        if self.frames and done < calls:
            self._batch.append(look())
        if self.frames and done == calls:
            count = len(look()) if not self._batch else len(self._batch[0])
            self._done += [[part[i] for part in self._batch] for i in range(count)]
            self._batch = []
        self._moved(done, calls)

    def of(self, picture: np.ndarray) -> list[np.ndarray]:
        """The frames of the next picture that was drawn, which is the last of them."""
        return [*self._done.popleft(), picture]


def filmstrip(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames uint8 (h, w, 3) beside one another; small ones are enlarged."""
    parts: list[np.ndarray] = []
    for frame in map(enlarge, frames):
        parts += [frame, np.full((frame.shape[0], GAP, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)
