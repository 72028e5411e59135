"""The training stream: shuffled, endless, sharded over hosts, and a function of the step.

Batch k depends on (records, transform, seed, batch_size, k) and on nothing else: not on where the
stream was started, nor on threads, worker processes or the number of hosts (these only decide which
host holds which part of batch k). So resuming needs no saved iterator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from jaxgen.data import buckets
from jaxgen.errors import UserError

_SHUFFLE_LENGTH = 4096
Batch = dict[str, np.ndarray]


def train_dataset(
    records: Any,
    transform: Callable[[Any], Any],
    *,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset:
    """The endless MapDataset of this host's batches: `[k]` is its part of global batch k.

    Args:
      records: random-access source (`len`, `[i]`), the same on all hosts. If it has `shapes`, one
        of each record, a batch is of records of one shape (`jaxgen.data.buckets`).
      transform: MapDataset of records -> MapDataset of examples, one to one (see `jaxgen.task`).
      batch_size: global; each host gets batch_size / process_count examples.
      seed: of the shuffle (another order each epoch) and of all randomness in `transform`.
      process_index, process_count: of this host.

    Raises:
      UserError: no records, or hosts that cannot share a batch equally.
    """
    if len(records) == 0:
        raise UserError("the data source is empty: there is nothing to train on")
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"train.batch_size={batch_size} must be a positive multiple of the "
            f"{process_count} processes"
        )
    if shapes := getattr(records, "shapes", ()):
        stream = buckets.Stream(records, shapes, batch_size, seed)
        dataset = grain.MapDataset.source(stream).seed(seed)
    else:
        # Grain's shuffle walks a cipher of 2^16 entries until it falls below the length: 3 ms per
        # example for 15 pictures, which is six times the rest. Copies first make it cheap; each
        # picture still comes equally often, now per `copies` rounds.
        copies = -(-_SHUFFLE_LENGTH // len(records))
        dataset = grain.MapDataset.source(records).seed(seed).repeat(copies).shuffle().repeat()
    # The transform comes before the stride, so that an example's randomness follows its global
    # index: with any number of hosts, batch k is made of the same examples.
    dataset = transform(dataset).map(_without_host_fields)
    if process_count > 1:
        dataset = dataset[process_index::process_count]
    return dataset.batch(batch_size // process_count, drop_remainder=True)


def train_iterator(
    records: Any,
    transform: Callable[[Any], Any],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 2,
    prefetch: int = 4,
) -> Iterator[Batch]:
    """Endless iterator of this host's batches from `start_step` on.

    Args:
      start_step: the first batch given; batch k is the same from any start.
      workers: processes that make batches; 0: this process. A script that uses them must be
        guarded by `if __name__ == "__main__"`, since they are spawned.
      threads: that make batches, in each process; 0: made when asked for.
      prefetch: batches made ahead, in each process.
      Others: as in `train_dataset`.

    Yields:
      dicts of NumPy arrays with the local batch in front; keys that start with "_" are left out.

    Raises:
      UserError: as `train_dataset`; also what a source or transform raises while reading.
    """
    dataset = train_dataset(
        records,
        transform,
        batch_size=batch_size,
        seed=seed,
        process_index=process_index,
        process_count=process_count,
    )
    # Slicing is exact under workers, where setting an iterator's position is not possible.
    dataset = dataset[start_step:] if start_step else dataset
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    stream = dataset.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags; a notebook has none
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=prefetch)
        )
    return iter(stream)


def close(iterator: Iterator[Batch]) -> None:
    """Stops the threads and processes of a `train_iterator`, and frees their shared memory.

    Call it in a `finally`: left to the interpreter's end, Grain's clean-up prints warnings.
    """
    stop = getattr(iterator, "close", None)
    if stop is not None:
        stop()


def _without_host_fields(example: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in example.items() if not key.startswith("_")}
