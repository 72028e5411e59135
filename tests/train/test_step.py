"""The step: phases in order, what is due when, averages, donation, no retrace, clipping."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import config as configs
from jaxgen import devices
from jaxgen.errors import UserError
from jaxgen.task import Due, Lazy, Phase, Task
from jaxgen.train import mesh as meshes
from jaxgen.train.checkpoint import Checkpoints
from jaxgen.train.compiled import compile_step
from jaxgen.train.optimizer import make_optimizer, schedule
from jaxgen.train.state import init_state, make_optimizers, phase_updates
from jaxgen.train.step import Tally, make_step
from jaxgen.train.tally import NonFiniteError, read_tally


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


def run_steps(task, optimizers, config, state, count):
    states = []
    for number in range(count):
        due = Due.at(task.phases, number)
        state, tally = jax.jit(make_step(task, optimizers, config, due))(state, BATCH, {})
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
    assert [int(t.counts.get("g", 0)) for _, t in states] == [0, 0, 1, 0, 0, 1, 0, 0, 1]
    assert [phase_updates(phase, n) for n in range(10)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def test_the_lazy_loss_comes_at_every_so_many_updates():
    phase = Phase("g", ("a",), descend("a"), every=2, start=1)
    strong = descend("a", lambda params, batch: 10 * batch["x"].mean())
    phase = dataclasses.replace(phase, lazy=Lazy(3, strong))
    found = [Due.at((phase,), step) for step in range(9)]
    # Updates at steps 1, 3, 5, 7; the first and the fourth of them are strong.
    names = [("lazy " if due.lazy else "") + "".join(due.phases) for due in found]
    assert names == ["", "lazy g", "", "g", "", "g", "", "lazy g", ""]
    states = run_steps(*toy([phase]), 9)
    moves = [float(s.params["a"]["w"]) for s, _ in states]
    assert moves == [1.0, -4.0, -4.0, -4.5, -4.5, -5.0, -5.0, -10.0, -10.0]


def test_interval_means_are_over_all_programs(tmp_path):
    """Metrics that only one of an interval's programs has are means over all its updates."""
    seldom = Tally({"d/loss": 3.0, "d/penalty": 9.0}, {"d": 1}, {"d/loss": -1}, 0)
    often = Tally({"d/loss": 2.0, "g/loss": 8.0}, {"d": 2, "g": 2}, {"d/loss": -1}, 0)
    values = read_tally([seldom, often], ["d", "g"], 0, None)
    assert values == {"d/loss": 5 / 3, "d/penalty": 3.0, "g/loss": 4.0}
    bad = [t.replace(bad={"d/loss": at}) for t, at in ((seldom, 7), (often, 5))]
    with pytest.raises(NonFiniteError, match="phase 'd' is NaN or infinite at step 5"):
        read_tally(bad, ["d", "g"], 0, Checkpoints(tmp_path))


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


def test_a_step_that_does_not_fit_is_refused_before_it_runs(monkeypatch):
    def loss(params, mutable, frozen, batch, rng, step):
        return (params["a"]["w"] * jnp.ones((4, 64, 64, 32))).mean(), ({}, {})

    mesh = meshes.make_mesh({"data": -1})
    task, optimizers, config, state = toy([Phase("g", ("a",), loss)])
    state = jax.device_put(state, meshes.replicated(mesh))
    batch = meshes.put_batch({"x": np.ones(8, np.float32)}, mesh)
    monkeypatch.setattr(devices, "_available", lambda: 1 << 20)
    given = (task, optimizers, config, Due(("g",)), state, batch, {}, mesh)
    says = "one array of a step of g needs 2 MB of memory, and 1 MB are free; set a smaller train"
    with pytest.raises(UserError, match=says):
        compile_step(*given)
    # What only the compiled program tells is told before it runs.
    monkeypatch.setattr(devices, "largest_array", lambda jaxpr: 0)
    monkeypatch.setattr(devices, "_available", lambda: -1)
    with pytest.raises(UserError, match=r"a step of g needs .* of memory, and 0 MB are free"):
        compile_step(*given)


def test_state_is_donated_and_nothing_is_traced_again():
    mesh = meshes.make_mesh({"data": -1})
    task, optimizers, config, state = toy([Phase("g", ("a",), descend("a"))], ema={"a": 0.9})
    state = jax.device_put(state, meshes.replicated(mesh))
    batch = meshes.put_batch({"x": np.ones(8, np.float32)}, mesh)
    step = compile_step(task, optimizers, config, Due(("g",)), state, batch, {}, mesh)
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


def test_groups_have_learning_rates_of_their_own_and_sgd_decays():
    settings = configs.optimizer(
        0.5, name="sgd", b1=0.0, weight_decay=0.1, factors=(("trunk", 0.1), ("^g/", 2.0))
    )
    rule = make_optimizer(settings, 10).rule
    params = {"g": {"trunk": jnp.ones(2), "head": jnp.ones(2)}, "h": {"head": jnp.ones(2)}}
    grads = jax.tree.map(lambda p: 3 * p, params)
    updates, _ = rule.update(grads, rule.init(params), params)
    plain = -0.5 * (3 + 0.1)
    np.testing.assert_allclose(updates["g"]["trunk"], 0.1 * plain, rtol=1e-6)
    np.testing.assert_allclose(updates["g"]["head"], 2 * plain, rtol=1e-6)
    np.testing.assert_allclose(updates["h"]["head"], plain, rtol=1e-6)
