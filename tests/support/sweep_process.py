"""A sweep's process with a trainer of a moment: `sweep_process.py FOLDER STORAGE TRIALS [hang]`.

hang: its first trial never ends.
"""

import sys
import time
from pathlib import Path

from jaxgen.train import loop
from jaxgen.train import sweep as sweeps
from jaxgen.train.sweep_study import Sweep

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SPACE = {"optimizer.pretrain.lr": {"log": (1e-4, 1e-2)}}


def of(folder: str | Path, storage: str) -> Sweep:
    """The sweep that all such processes are at."""
    config = f"{REPOSITORY}/configs/srresnet.py:tiny"
    return Sweep(config, SPACE, "score", "max", Path(folder), storage=storage)


def train(config, workdir, watch=None, **_):
    """In place of `jaxgen.train.loop.train`; the score is the learning rate."""
    Path(workdir).mkdir(parents=True)  # a folder that is there already is another trial's
    time.sleep(0.3)
    score = float(config.optimizer.pretrain.lr)
    watch(1, {"score": score})
    return loop.Result(1, {"score": score})


def hang(config, workdir, watch=None, **_):
    """Trains for ever."""
    Path(workdir).mkdir(parents=True)
    (Path(workdir) / "hangs").touch()
    time.sleep(600)


if __name__ == "__main__":
    folder, storage, trials, *how = sys.argv[1:]
    loop.train = hang if how else train
    sweeps.POLL = 0.2
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / "ready").touch()
    while not how and not (Path(folder).parent / "go").exists():
        time.sleep(0.02)
    sweeps.run(of(folder, storage), int(trials), say=lambda line: print(line, flush=True))
