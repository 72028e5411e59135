"""Features of pictures for distances between sets: Inception's, or a random network's by its name.

Numbers of Inception's features are called FID, KID, IS; those of any other network carry the
network's name (`FeatureNet.label`), for they are on another scale.
"""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import devices
from jaxgen.data.picture_files import read_image
from jaxgen.data.resize import imresize
from jaxgen.encoders import inception, vgg
from jaxgen.errors import UserError
from jaxgen.metrics.statistics import Statistics, add, no_moments, over_hosts, rows_of_hosts

# The random network: a narrow VGG19, of whose layers the means over the pixels are taken.
VGG_LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4")
VGG_WIDTH, VGG_SIDE = 0.5, 64
_THREADS = 4


class FeatureNet(NamedTuple):
    """A frozen network that turns pictures into features.

    label: "" for the FID's Inception; else what the names of its numbers end in.
    about: which network, weights and resizing, for reports and files of statistics.
    size: of the features.
    variables: the network's, on the devices.
    prepare: uint8 (b, h, w, 3), NumPy -> float32 input, NumPy.
    prepare_there: the same of JAX arrays, compiled; None where only the host can do it.
    apply: (variables, input) -> (features (b, size), logits (b, classes) or None), compiled.
    """

    label: str
    about: Mapping[str, Any]
    size: int
    variables: Any
    prepare: Callable[[np.ndarray], np.ndarray]
    prepare_there: Callable[[jax.Array], jax.Array] | None
    apply: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array | None]]


def inception_net(weights: str | Path, resize: str = "tf1") -> FeatureNet:
    """The FID's Inception from a file (see `jaxgen.encoders.inception.load`).

    Args:
      resize: "tf1", "torch" or "clean", see `jaxgen.encoders.inception.prepare`.

    Raises:
      UserError: not such a file, or another resize.
    """
    if resize not in inception.RESIZES:
        raise UserError(f"no such resize {resize!r}; choose from {', '.join(inception.RESIZES)}")
    variables = inception.load(weights)
    path = Path(weights).expanduser()
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FeatureNet(
        label="",
        about={
            "features": "inception_v3_fid 2048",
            "resize": resize,
            "weights": f"{path.name} sha256:{digest[:12]}",
        },
        size=variables["params"]["classifier"]["kernel"].shape[0],
        variables=devices.replicate(variables, devices.usable()),
        prepare=functools.partial(inception.prepare, resize=resize),
        prepare_there=None if resize == "clean" else functools.partial(_prepare, resize=resize),
        apply=_apply_inception,
    )


# Compiled once in a process, whatever the number of networks.
_prepare = jax.jit(inception.prepare, static_argnames="resize")


@jax.jit
def _apply_inception(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    taken = inception.features(variables, x, ("2048", "logits_unbiased"))
    return taken["2048"], taken["logits_unbiased"]


def random_net(seed: int = 0) -> FeatureNet:
    """A VGG19 of half the width with random weights from `seed`, on pictures of 64 x 64.

    Needs no file. Distances by random features rank models that are far apart and are no one else's
    numbers: label "random_vgg19".
    """
    params = vgg.load_perceptual("random", VGG_LAYERS, VGG_WIDTH, seed)
    layers = ", ".join(VGG_LAYERS)
    return FeatureNet(
        label="random_vgg19",
        about={
            "features": f"random_vgg19 width {VGG_WIDTH} ({layers}, means over pixels)",
            "resize": f"MATLAB bicubic to {VGG_SIDE}",
            "weights": f"He-normal, seed {seed}",
        },
        size=sum(params[name]["bias"].size for name in VGG_LAYERS),
        variables=devices.replicate(params, devices.usable()),
        prepare=_square,
        prepare_there=None,
        apply=_apply_vgg,
    )


@jax.jit
def _apply_vgg(params: Any, x: jax.Array) -> tuple[jax.Array, None]:
    maps = vgg.features(params, vgg.prepare(x), VGG_LAYERS, before_activation=False)
    return jnp.concatenate([m.mean(axis=(1, 2)) for m in maps.values()], axis=1), None


def _square(pictures: np.ndarray) -> np.ndarray:
    if pictures.shape[1:3] != (VGG_SIDE, VGG_SIDE):
        pictures = np.stack([imresize(p, size=(VGG_SIDE, VGG_SIDE)) for p in pictures])
    return pictures.astype(np.float32) / 127.5 - 1.0


# -------------------------------------------------------------------------------- many pictures


class Measured(NamedTuple):
    """Statistics of pictures, features included, and their logits (n, classes) if there are."""

    statistics: Statistics
    logits: np.ndarray | None


def measure(
    net: FeatureNet,
    pictures: Iterable[np.ndarray],
    about: Mapping[str, Any] | None = None,
    batch: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """Features of pictures and their statistics; of all hosts' pictures, on every host.

    Args:
      pictures: uint8 (h, w, 3), any sizes; on several hosts each gives its share, in the order of
        hosts.
      about: what they are, added to the network's own record.
      batch: pictures at a time; None: 8 on a CPU, else 128. Changes no number beyond rounding.
      progress: called with the number of pictures done on this host.

    Raises:
      UserError: fewer than two pictures.
    """
    moments = no_moments(net.size)
    features: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    done = 0
    for part, part_logits in extract(net, pictures, batch):
        moments = add(moments, part)
        features.append(part)
        if part_logits is not None:
            logits.append(part_logits)
        done += len(part)
        if progress is not None:
            progress(done)
    rows = np.concatenate(features) if features else np.zeros((0, net.size), np.float32)
    moments, rows = over_hosts(moments), rows_of_hosts(rows)
    if moments.n < 2:
        raise UserError("a distance between sets needs two pictures or more on both sides")
    about = {**net.about, **(about or {}), "n": moments.n}
    statistics = Statistics(moments.n, moments.mean, moments.covariance, rows, about)
    return Measured(statistics, rows_of_hosts(np.concatenate(logits)) if logits else None)


def extract(
    net: FeatureNet, pictures: Iterable[np.ndarray], batch: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """(features (b, size), logits or None) of batch after batch, float32, in order.

    The last batch is filled up to the size of the others, so that one program serves all, and cut
    again. The devices work on one batch while the next is read.
    """
    used = devices.usable()
    batch = batch or (8 if jax.default_backend() == "cpu" else 128)
    batch = -(-batch // len(used)) * len(used)
    rest = iter(pictures)
    waiting: deque[tuple[int, Any]] = deque()
    with ThreadPoolExecutor(_THREADS) as threads:
        while part := list(islice(rest, batch)):
            count = len(part)
            part += [part[-1]] * (batch - count)
            same = len({picture.shape for picture in part}) == 1
            if same and net.prepare_there is not None:
                x = net.prepare_there(devices.split(np.stack(part), used))
            else:
                # Pictures of many sizes: on the host, without a program for each size.
                prepared = list(threads.map(lambda p: net.prepare(p[None]), part))
                x = devices.split(np.concatenate(prepared), used)
            waiting.append((count, net.apply(net.variables, x)))
            if len(waiting) > 1:
                yield _taken(*waiting.popleft())
        while waiting:
            yield _taken(*waiting.popleft())


def _taken(count: int, outputs: Any) -> tuple[np.ndarray, np.ndarray | None]:
    features, logits = outputs
    rows = np.asarray(features, np.float32)[:count]
    if not np.isfinite(rows).all():
        raise UserError("features of pictures are not finite: the network's weights are damaged")
    return rows, None if logits is None else np.asarray(logits, np.float32)[:count]


def read_pictures(files: Sequence[Path]) -> Iterator[np.ndarray]:
    """uint8 (h, w, 3) of each file, read ahead by threads; UserError names a damaged one."""
    with ThreadPoolExecutor(_THREADS) as threads:
        rest = iter(files)
        ahead = deque(threads.submit(read_image, f) for f in islice(rest, 16 * _THREADS))
        while ahead:
            picture = ahead.popleft().result()
            ahead.extend(threads.submit(read_image, f) for f in islice(rest, 1))
            yield picture
