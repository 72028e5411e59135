"""Several windows at the same time on a CPU: the same bits, within the memory, no thread left."""

import itertools
import math
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.upscaling import of_module

from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.verbs.upscale import tiling


class Net(nn.Module):
    """Two 3x3 convolutions to twice the size; radius 2."""

    @nn.compact
    def __call__(self, x):
        x = nn.leaky_relu(nn.Conv(6, (3, 3))(x))
        x = nn.Conv(12, (3, 3))(x)
        b, h, w, _ = x.shape
        x = x.reshape(b, h, w, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
        return jnp.tanh(x.reshape(b, h * 2, w * 2, 3))


net = Net()
NETS = {"g": jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))}
VERB = of_module(net.apply, 2, 2)
PICTURE = np.random.default_rng(0).integers(0, 256, (61, 50, 3), dtype=np.uint8)


def cores(monkeypatch, count):
    """One CPU device, as where no one asked for more, on so many cores."""
    first = jax.devices()[0]
    monkeypatch.setattr(jax, "local_devices", lambda: [first])
    monkeypatch.setattr(devices, "cores", lambda: count)


@pytest.fixture
def two_cores(monkeypatch):
    cores(monkeypatch, 2)


def test_how_many_at_the_same_time(monkeypatch):
    assert devices.workers() == 1  # eight CPU devices
    for count, expected in ((1, 1), (2, 2), (3, 3), (64, 4)):
        cores(monkeypatch, count)
        assert devices.workers() == expected

    class Accelerator:
        platform = "gpu"

    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator()])
    assert devices.workers() == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_the_same_bits_as_one_at_a_time(monkeypatch, batch):
    def upscaled(count):
        cores(monkeypatch, count)
        images = [PICTURE, PICTURE[::-1]]
        return tiling.upscale_images(VERB, NETS, images, tile=9, batch=batch)

    alone = upscaled(1)
    for count in (2, 3, 4):
        assert np.array_equal(upscaled(count), alone)


def test_two_programs_run_at_the_same_time(two_cores):
    """Each window's program waits until another one's runs: without, this would time out.

    But for the first: a program with a callback runs where it is called, and that one compiles.
    """
    together, shapes, runs = threading.Barrier(2, timeout=60), [], itertools.count()

    def wait(x):
        if next(runs):
            together.wait()
        return x

    def apply(variables, x):
        shapes.append(x.shape)
        x = jax.pure_callback(wait, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        return net.apply(variables, x)

    image = PICTURE[:54, :14]  # five windows
    result = tiling.upscale_image(of_module(apply, 2, 2), NETS, image, tile=10)
    assert np.array_equal(result, tiling.upscale_image(VERB, NETS, image, tile=10))
    assert next(runs) == 5
    assert shapes.count((1, 14, 14, 3)) == 1  # and one compilation


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [(40, 40), (200, 200), (150, 900), (2000, 2000)])
@pytest.mark.parametrize("pictures", [1, 3])
def test_windows_in_flight_share_the_memory(monkeypatch, count, size, pictures):
    cores(monkeypatch, count)
    per_pixel = tiling.bytes_per_pixel(VERB, NETS)
    room = 300 * 300 * per_pixel
    monkeypatch.setattr(devices, "memory", lambda: room)
    for tile in (None, 100, 250):
        window, workers = tiling._plan(VERB, NETS, None, size, tile, 1, pictures)
        assert workers * math.prod(window) * per_pixel <= room
        assert workers <= count
        if size == (2000, 2000) and tile is None and count > 1:
            assert workers > 1


def test_a_picture_is_cut_only_where_that_pays(two_cores):
    def plan(side, pictures=1):
        return tiling._plan(VERB, NETS, None, (side, side), None, 1, pictures)

    assert plan(24) == ((24, 24), 1)
    assert plan(256) == ((256, 136), 2)
    assert plan(256, pictures=2) == ((256, 256), 2)
    assert tiling.frames_at_once(VERB, NETS, (24, 24)) == (2, 1)
    assert tiling.frames_at_once(VERB, NETS, (24, 24), tile=10) == (1, 1)


def test_larger_windows_keep_more_cores_busy(monkeypatch):
    cores(monkeypatch, 4)
    small, large = 100 * 100, 400 * 400
    assert devices.busy_cores(1, small) < devices.busy_cores(1, large) < 2
    assert devices.busy_cores(3, small) < devices.busy_cores(3, large) == 4


def test_a_cut_picture_equals_the_whole(monkeypatch):
    image = np.random.default_rng(1).integers(0, 256, (200, 180, 3), dtype=np.uint8)
    cores(monkeypatch, 1)
    whole = tiling.upscale_image(VERB, NETS, image)
    totals = set()
    for count in (2, 4):
        cores(monkeypatch, count)
        cut = tiling.upscale_image(VERB, NETS, image, progress=lambda _, n: totals.add(n))
        assert (cut != whole).mean() < 1e-3  # rounding ties
    assert totals == {2, 4}


def test_progress_is_told_by_the_caller_s_thread(two_cores):
    told, before = [], threading.active_count()

    def progress(done, total):
        told.append((done, total, threading.current_thread()))

    tiling.upscale_image(VERB, NETS, PICTURE, tile=20, progress=progress)
    assert len(told) > 4
    assert [one[:2] for one in told] == [(i + 1, len(told)) for i in range(len(told))]
    assert {thread for _, _, thread in told} == {threading.main_thread()}
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_the_windows_that_have_not_begun(two_cores, monkeypatch, error):
    before, place, placed = threading.active_count(), tiling._place, []

    def placing(*args):
        placed.append(1)
        place(*args)

    def progress(done, total):
        raise error

    monkeypatch.setattr(tiling, "_place", placing)
    with pytest.raises(error):
        tiling.upscale_image(VERB, NETS, np.tile(PICTURE, (6, 6, 1)), tile=4, progress=progress)
    assert len(placed) < 1000  # of 6900
    assert threading.active_count() == before


def test_out_of_memory_first_takes_one_at_a_time(two_cores, monkeypatch):
    running, place = set(), tiling._place

    def placing(*args):
        # As a machine would that holds one window only.
        running.add(threading.get_ident())
        if threading.current_thread() is not threading.main_thread():
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        place(*args)

    alone = tiling.upscale_image(VERB, NETS, PICTURE, tile=20)
    monkeypatch.setattr(tiling, "_place", placing)
    assert np.array_equal(tiling.upscale_image(VERB, NETS, PICTURE, tile=20), alone)
    assert len(running) > 1

    def never(variables, x):
        if x.shape[1:3] != (32, 32):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return net.apply(variables, x)

    for tile, message in ((30, "tile of 30 pixels does not fit"), (None, "does not hold a window")):
        with pytest.raises(UserError, match=message):
            tiling.upscale_image(of_module(never, 2, 2), NETS, PICTURE, tile=tile)
