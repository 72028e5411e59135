"""InstructPix2Pix (Brooks et al., CVPR 2023): a picture changed as an instruction says.

The net sees the picture's latent beside x, unscaled as published, and was trained with either of
the two left out, so that both guide: with e(picture, words) what it says,

    e(-, -) + s_I (e(I, -) - e(-, -)) + s_T (e(I, T) - e(I, -))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import sampling
from jaxgen.diffusion.plans import FLOW_SAMPLERS, SAMPLERS, make_plan
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.tasks.common import to_float
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

IMAGE_GUIDANCE = Option(
    1.5, "above 1: the picture counts more; published 1 to 2.5", least=0.0, most=1000.0
)


def method(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    says = "InstructPix2Pix: the picture is changed as an instruction says"
    samplers = FLOW_SAMPLERS if editing.schedule.flow else SAMPLERS
    options = {
        "image_guidance": IMAGE_GUIDANCE,
        "sampler": Option(
            str(editing.config.model.sampling.sampler), "how a step is taken",
            choices=tuple(name for name in samplers if not name.startswith("inverse")),
        ),
    }  # fmt: skip
    kinds = {"captioned": False, "draws": False, "refusal": lambda: _refusal(editing)}
    return editing.method(says, prepare, run, options, **kinds)


def _refusal(editing: Editing) -> str:
    if editing.instruct:
        return ""
    return "it reads captions, not instructions: convert InstructPix2Pix, or take --method p2p"


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    plan = make_plan(
        editing.schedule, editing.config.model.target, settings["sampler"], settings["steps"]
    )
    shared = {
        "plan": plan,
        "guidance": np.float32(settings["guidance"]),
        "image_guidance": np.float32(settings["image_guidance"]),
        "negative": editing.read(settings["negative"]),
    }
    return Prepared(shared, editing.request(request))


def run(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`; one pass of the net a step, of three rows for each result."""
    b, r = each["tokens"].shape[:2]
    k = r - 1

    def rows(x: jax.Array) -> jax.Array:
        return jnp.repeat(x, k, axis=0)

    asked = editing.embed(nets, each["tokens"][:, 1:], each["mask"][:, 1:])
    free = editing.unasked(nets, shared, b * k)
    words = jax.tree.map(lambda a, u: jnp.concatenate([a, u, u]), asked, free)
    picture = to_float(each["picture"])
    beside = rows(editing.space.unscaled(nets, picture))
    beside = jnp.concatenate([beside, beside, jnp.zeros_like(beside)])

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        seen = jnp.concatenate([jnp.concatenate([x, x, x]), beside.astype(x.dtype)], axis=-1)
        said = editing.net.apply(nets["g"], seen, jnp.concatenate([t, t, t]), **words)
        both, image, none = jnp.split(said.astype(x.dtype), 3)
        of_words, of_image = shared["guidance"], shared["image_guidance"]
        return none + of_image * (image - none) + of_words * (both - image)

    keys, plan = editing.keys(each), shared["plan"]
    noise, draw = rows(editing.first_noise(each)), sampling.noise_of(keys, editing.shape)
    where, held = editing.where(each), None
    if where is not None:
        source = rows(editing.space.usual(nets, picture))
        held = sampling.Held(source, rows(where[:, 0]), noise)
    x = sampling.sample(denoise, plan, noise, draw=lambda i: rows(draw(i)), held=held)
    drawn = editing.pictures(nets, x.reshape(b, k, *x.shape[1:]))
    return {"edits": editing.within(drawn, each)}
