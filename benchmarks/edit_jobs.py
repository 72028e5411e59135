"""jaxgen's side of `benchmarks.edit`: each job as one program."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import common, unets
from benchmarks.unets import Size

GUIDANCE, LOOKS = 7.5, 4  # times of noise at a step of Imagic
CROSS, OWN = 0.8, 0.4  # shares of the steps with the source's maps
RATES = {"words": 1e-3, "weights": 1e-6}


@dataclasses.dataclass(frozen=True)
class Case:
    """job: of `benchmarks.edit`. steps: of the path, or of the optimiser.
    size: fields of `unets.Size`."""

    job: str
    steps: int
    size: Any

    def inputs(self) -> dict[str, np.ndarray]:
        """Token tables, pictures, times and noise of all jobs, and a table of moved words."""
        rng, size = np.random.default_rng(0), Size.of(self.size)
        latent = (size.side, size.side, 4)
        mapper = np.eye(size.tokens, dtype=np.float32)
        mapper[[1, 2]] = mapper[[2, 1]]
        weight = np.ones(size.tokens, np.float32)
        weight[3] = 2
        return {
            "table": rng.standard_normal((3 * size.tokens, size.context), np.float32),
            "picture": rng.integers(0, 256, (1, *latent), np.uint8),
            "times": rng.integers(0, 1000, (self.steps, LOOKS)).astype(np.float32),
            "noises": rng.standard_normal((self.steps, LOOKS, *latent), np.float32),
            "mapper": mapper,
            "weight": weight,
        }


class Looked:
    """Stands for a text encoder: words are rows of a table, and all count."""

    def __init__(self, width: int):
        self.width = width

    def init(self, rng: Any, tokens: Any, mask: Any) -> Any:
        del rng, mask
        return {"table": np.zeros((3 * tokens.shape[1], self.width), np.float32)}

    def apply(self, variables: Any, tokens: Any, mask: Any) -> Any:
        import jax.numpy as jnp

        from jaxgen.nn.text import Text

        words = jnp.asarray(variables["table"])[tokens]
        return Text(words, jnp.ones_like(mask), jnp.zeros((len(tokens), 1)))


def make_editing(size: Size, net: Any) -> Any:
    """jaxgen's `Editing` around a UNet whose pictures are its latents."""
    from ml_collections import ConfigDict

    from jaxgen.diffusion.schedules import Schedule
    from jaxgen.models.ldm.condition import Condition
    from jaxgen.models.ldm.edit.editing import Editing
    from jaxgen.models.ldm.space import Space

    condition = Condition(
        "text", np.zeros(size.tokens, np.int32), lambda text: None, Looked(size.context),
        size.context, fixed=True,
    )  # fmt: skip
    made = SimpleNamespace(
        space=Space(None, 4), condition=condition, schedule=Schedule(), net=net, guided=True,
        nets=("g", "text"), instruct=False,
    )  # fmt: skip
    model = {"target": "eps"}
    return Editing(made, ConfigDict({"data": {"size": size.side}, "model": model}))


def serve_jax(case: Case, folder: Path) -> None:
    """The worker of jaxgen's program; leaves weights and results in `folder` for the rivals."""
    import jax

    from jaxgen import heap

    heap.keep_freed_memory()
    size = Size.of(case.size)
    net, variables = unets.make_jax(size)
    unets.leave_weights(net, variables, folder)
    arrays = case.inputs()
    nets = jax.device_put({"g": variables, "text": {"table": arrays["table"]}})
    editing = make_editing(size, net)
    job = {
        "p2p": _p2p, "null-text": _null_text, "null-text-frozen": _null_text,
        "words": _imagic, "weights": _imagic,
        "direct": _direct, "plain": _plain,
    }[case.job]  # fmt: skip
    f, given = job(editing, nets, case, arrays)
    given = jax.device_put(given)
    program, facts = unets.compiled(f, nets, given)
    note = unets.peak(facts)

    def check(results: list[Any]) -> None:
        note(results)
        said = {k: np.asarray(v) for k, v in results[-1].items()}
        np.savez(folder / "said.npz", **said)

    common.serve(lambda: jax.block_until_ready(program(nets, given)), facts, check)


def _texts(case: Case, *numbers: int) -> np.ndarray:
    """Tokens (1, texts, l) of the texts 0, 1, 2 (the empty one)."""
    tokens = Size.of(case.size).tokens
    return np.stack([np.arange(tokens) + n * tokens for n in numbers])[None].astype(np.int32)


def _shared(case: Case) -> dict[str, Any]:
    """Guidance, as `Editing.steps` gives it."""
    empty = _texts(case, 2)[0, 0]
    return {"guidance": np.float32(GUIDANCE), "negative": (empty, np.ones(len(empty), bool))}


def _ddim(editing: Any, case: Case) -> Any:
    from jaxgen.diffusion.plans import make_plan

    return make_plan(editing.schedule, "eps", "ddim", case.steps)


def _p2p(editing: Any, nets: Any, case: Case, arrays: Any) -> tuple[Callable, Any]:
    from jaxgen.edit.prompt_to_prompt import Tables
    from jaxgen.models.ldm.edit import prompt_to_prompt
    from jaxgen.models.ldm.edit.prompt_to_prompt import Form

    del nets
    plan, tokens = _ddim(editing, case), _texts(case, 0, 1)
    rows, count = len(plan.times), tokens.shape[2]
    when = np.zeros((1, rows, 1, count), np.float32)
    when[:, : int(CROSS * case.steps)] = 1
    ones = np.ones((1, 1, count), np.float32)
    tables = Tables(
        arrays["mapper"][None, None], ones, ones * arrays["weight"], when,
        np.array([[0, int(OWN * case.steps)]], np.int32),
    )  # fmt: skip
    each = {
        "tokens": tokens, "mask": np.ones(tokens.shape, bool), "tables": tables,
        "noise": np.zeros((1, 3), np.uint32),
    }  # fmt: skip
    form = Form(32**2, False, "", False, ("", False))

    def run(nets, given):
        shared, each = given
        shared = {**shared, "form": form}
        found = prompt_to_prompt.run(editing, nets, shared, each)
        return {**found, "noise": editing.first_noise(each)}

    return run, ({**_shared(case), "plan": plan}, each)


def _asked(editing: Any, nets: Any, case: Case) -> Any:
    tokens = _texts(case, 0)[0]
    return editing.embed(nets, tokens, np.ones(tokens.shape, bool))


def _x0(picture: Any) -> Any:
    from jaxgen.tasks.common import to_float

    return to_float(picture)


def _null_text(editing: Any, nets: Any, case: Case, arrays: Any) -> tuple[Callable, Any]:
    from jaxgen.edit.path import make_path
    from jaxgen.models.ldm.edit.null_text import null_text

    del nets
    path = make_path(editing.schedule, "eps", case.steps)

    def run(nets, given):
        shared, picture = given
        asked = _asked(editing, nets, case)
        found = null_text(editing, nets, shared, None, _x0(picture), asked)
        return {"noise": found.noise, "words": found.unasked["context"]}

    return run, ({**_shared(case), "path": path}, arrays["picture"])


def _imagic(editing: Any, nets: Any, case: Case, arrays: Any) -> tuple[Callable, Any]:
    import jax.numpy as jnp

    from jaxgen.edit.imagic import fit_picture

    del nets
    learns, rate = case.job, RATES[case.job]

    def run(nets, given):
        picture, times, noises = given
        words = _asked(editing, nets, case)["context"]

        def predict(learnt, x, t):
            net = {"params": learnt} if learns == "weights" else nets["g"]
            said = learnt if learns == "words" else words
            return editing.net.apply(net, x, t, jnp.broadcast_to(said, (len(x), *said.shape[1:])))

        learnt, losses = fit_picture(
            predict, words if learns == "words" else nets["g"]["params"],
            editing.schedule.levels, "eps", _x0(picture), times, lambda i: noises[i], rate,
        )  # fmt: skip
        return {"losses": losses, **({"words": learnt} if learns == "words" else {})}

    return run, tuple(arrays[k] for k in ("picture", "times", "noises"))


def _direct(editing: Any, nets: Any, case: Case, arrays: Any) -> tuple[Callable, Any]:
    from jaxgen.models.ldm.edit.inversion import INVERSIONS, inverse

    del nets
    back = inverse(_ddim(editing, case), editing, case.steps)

    def run(nets, given):
        back, picture = given
        asked = _asked(editing, nets, case)
        found = INVERSIONS["direct"](editing, nets, {"inverse": back}, None, _x0(picture), asked)
        return {"noise": found.noise}

    return run, (back, arrays["picture"])


def _plain(editing: Any, nets: Any, case: Case, arrays: Any) -> tuple[Callable, Any]:
    from jaxgen.diffusion import sampling

    del nets

    def run(nets, given):
        shared, noise = given
        asked, free = _asked(editing, nets, case), editing.unasked(nets, shared, 1)

        def denoise(x, t):
            return editing.predict(nets, x, t[0], asked, free, shared["guidance"])[0]

        return {"x": sampling.sample(denoise, shared["plan"], noise)}

    return run, ({**_shared(case), "plan": _ddim(editing, case)}, arrays["noises"][0, :1])
