"""The step: phases in order, `every` and windows, averages, donation, no retrace, clipping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.task import Phase, Task
from jaxgen.train import mesh as meshes
from jaxgen.train.compiled import compile_step
from jaxgen.train.optimizer import make_optimizer, schedule
from jaxgen.train.state import init_state, make_optimizers, phase_updates
from jaxgen.train.step import make_step


def toy(phases, ema=None, **train):
    """Two one-number nets a and b."""

    def init(rng, batch):
        del rng, batch
        return {"a": {"w": jnp.ones(())}, "b": {"w": jnp.zeros(())}}, {}

    config = configs.base("toy")
    with config.unlocked():
        config.optimizer = {p.name: configs.optimizer(0.5, name="sgd", b1=0.0) for p in phases}
    config.train.update(train)
    task = Task(init=init, phases=tuple(phases), train_data=lambda: None, ema=ema or {})
    optimizers = make_optimizers(task, config)
    state = init_state(task, optimizers, 0, {})
    return task, optimizers, config, state


def descend(net, value=lambda params, batch: batch["x"].mean()):
    """A loss whose gradient with respect to `net` is `value`."""

    def loss(params, mutable, frozen, batch, rng, step):
        del mutable, frozen, rng, step
        slope = jax.lax.stop_gradient(value(params, batch))
        return params[net]["w"] * slope, ({}, {"slope": slope})

    return loss


BATCH = {"x": jnp.ones((4,))}


def run_steps(task, optimizers, config, state, count, active=None):
    step = jax.jit(
        make_step(task, optimizers, config, active or tuple(p.name for p in task.phases))
    )
    states = []
    for _ in range(count):
        state, tally = step(state, BATCH, {})
        states.append((state, tally))
    return states


def test_a_phase_sees_its_predecessors_update():
    first = Phase("first", ("a",), descend("a"))
    second = Phase("second", ("b",), descend("b", lambda params, batch: params["a"]["w"]))
    ((state, tally),) = run_steps(*toy([first, second]), 1)
    assert float(state.params["a"]["w"]) == 0.5  # 1 - 0.5 * 1
    assert float(state.params["b"]["w"]) == -0.25  # 0 - 0.5 * the new a
    assert float(tally.sums["second/slope"]) == 0.5


def test_every_counts_from_start():
    phase = Phase("g", ("a",), descend("a"), every=3, start=2)
    states = run_steps(*toy([phase]), 9)
    moves = [float(s.params["a"]["w"]) for s, _ in states]
    # Steps 2, 5 and 8 update.
    assert moves == [1.0, 1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, -0.5]
    assert [int(t.counts["g"]) for _, t in states] == [0, 0, 1, 0, 0, 1, 0, 0, 1]
    assert [phase_updates(phase, n) for n in range(10)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_windows():
    phase = Phase("p", ("a",), descend("a"), start=2, stop=4)
    assert [phase.active(s) for s in range(6)] == [False, False, True, True, False, False]
    assert phase_updates(phase, 100) == 2


def test_average_follows_with_warm_up():
    phase = Phase("g", ("a",), descend("a"))
    states = run_steps(*toy([phase], ema={"a": 0.9}), 3)
    value, average = 1.0, 1.0
    for t, (state, _) in enumerate(states):
        value -= 0.5
        decay = min(0.9, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * value
        np.testing.assert_allclose(float(state.ema["a"]["params"]["w"]), average, rtol=1e-6)


def test_randomness_depends_on_step_and_phase():
    seen = []

    def loss(params, mutable, frozen, batch, rng, step):
        number = jax.random.uniform(rng)
        return params["a"]["w"] * 0.0 + number * 0, ({}, {"number": number})

    phases = [Phase("p", ("a",), loss), Phase("q", ("a",), loss)]
    for _, tally in run_steps(*toy(phases), 2):
        seen += [float(tally.sums["p/number"]), float(tally.sums["q/number"])]
    assert len(set(seen)) == 4


def test_state_is_donated_and_nothing_is_traced_again():
    mesh = meshes.make_mesh({"data": -1})
    task, optimizers, config, state = toy([Phase("g", ("a",), descend("a"))], ema={"a": 0.9})
    state = jax.device_put(state, meshes.replicated(mesh))
    batch = meshes.put_batch({"x": np.ones(8, np.float32)}, mesh)
    step = compile_step(task, optimizers, config, ("g",), state, batch, {}, mesh)
    tally = step.empty_tally()
    with jax.no_tracing():
        for _ in range(3):
            before = state
            state, tally, tick = step(state, tally, batch, {})
            assert before.params["a"]["w"].is_deleted()
            assert before.opt["g"] is not None
    assert int(tick) == int(state.step) == 3
    assert int(tally.counts["g"]) == 3


def test_unclipped_and_clipped_norm():
    gradient = {"w": jnp.array([30.0, 40.0])}
    for clip, expected in ((0.0, 50.0), (5.0, 5.0)):
        rule, _ = make_optimizer(configs.optimizer(1.0, name="sgd", b1=0.0, clip_norm=clip), 10)
        updates, _ = rule.update(gradient, rule.init(gradient), gradient)
        np.testing.assert_allclose(float(jnp.linalg.norm(updates["w"])), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {0: 1.0, 5: 1.0, 10: 1.0}),
        ({"warmup": 4}, {0: 0.0, 2: 0.5, 4: 1.0, 9: 1.0}),
        ({"schedule": "cosine"}, {0: 1.0, 5: 0.5, 10: 0.0}),
        ({"schedule": "cosine", "warmup": 2, "final": 0.1}, {1: 0.5, 2: 1.0, 6: 0.55, 10: 0.1}),
        (
            {"schedule": "multistep", "milestones": (4, 8), "gamma": 0.1},
            {0: 1.0, 3: 1.0, 4: 0.1, 7: 0.1, 8: 0.01},
        ),
        (
            {"schedule": "multistep", "milestones": (4,), "gamma": 0.1, "warmup": 2},
            {1: 0.5, 3: 1.0, 4: 0.1},
        ),
    ],
)
def test_schedules(settings, expected):
    rate = schedule(configs.optimizer(1.0, **settings), updates=10)
    for count, value in expected.items():
        np.testing.assert_allclose(float(rate(count)), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("settings", [{"schedule": "linear"}, {"name": "lion"}])
def test_unknown_choices_are_user_errors(settings):
    with pytest.raises(UserError, match="unknown"):
        make_optimizer(configs.optimizer(1.0, **settings), 10)


def test_missing_optimizer_section():
    task, _, config, _ = toy([Phase("g", ("a",), descend("a"))])
    with config.unlocked():
        del config.optimizer.g
    with pytest.raises(UserError, match=r"no section for the phase\(s\) g"):
        make_optimizers(task, config)
