"""The verbs of a trained decoder: pictures changed as words say, and its retrieval model's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.models.tirg.task import retrieve_verb
from jaxgen.models.tirg_decoder.losses import make_decoder, make_prior
from jaxgen.models.tirg_decoder.prior import SCHEDULE, drawn_change, given
from jaxgen.models.tirg_decoder.retrieval import Retrieval
from jaxgen.task import Nets
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Edit, Method, Outcome, Prepared, Request
from jaxgen.verbs.features import unit_range
from jaxgen.verbs.prompts import read_aloud
from jaxgen.verbs.retrieve.contract import Retrieve


def edit_verb(config: ConfigDict) -> Edit:
    """The composed feature of a picture and each text, drawn; one method, "compose"."""
    retrieval, decoder, prior = Retrieval(config), make_decoder(config), make_prior(config)
    sampling = config.model.sampling
    options = {
        "steps": Option(int(sampling.steps), "from noise to the feature that is drawn", least=1,
                        most=SCHEDULE.steps),
        "guidance": Option(float(sampling.guidance), "above 1: picture and words count more",
                           least=0.0, most=1000.0),
        "candidates": Option(int(sampling.candidates), "features, of which the one nearest to the "
                             "composed one is drawn", least=1, most=1024),
    }  # fmt: skip

    def prepare(request: Request, settings: Mapping[str, Any]) -> Prepared:
        read = [read_aloud(retrieval.words.encode, text) for text in request.targets]
        assert request.picture is not None
        return Prepared(
            given(settings),
            {
                "picture": request.picture,
                "tokens": np.stack([one.tokens for one in read]),
                "mask": np.stack([one.mask for one in read]),
                "noise": np.array([request.seed, request.number], np.uint32),
            },
        )

    def run(nets: Nets, shared: Any, each: Any) -> Outcome:
        b, k = each["tokens"].shape[:2]
        tokens, mask = (each[name].reshape(b * k, -1) for name in ("tokens", "mask"))
        x = unit_range(each["picture"])
        asked = retrieval.asked(nets, x, tokens, mask)

        def noise(numbers: jax.Array, candidate: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.key(numbers[0]), numbers[1])
            shape = (k, asked.vector.shape[-1])
            return jax.random.normal(jax.random.fold_in(key, candidate), shape)

        of_pictures = jax.vmap(noise, in_axes=(0, None))
        z = jax.vmap(of_pictures, in_axes=(None, 0))(each["noise"], shared["candidates"])
        z = z.reshape(len(z), b * k, -1)
        change = drawn_change(prior, nets["prior"], asked, z, shared)
        found: Any = decoder.apply(nets["decoder"], asked, change)
        drawn = found.reshape(b, k, *x.shape[1:])
        return {"edits": jnp.clip(drawn, -1.0, 1.0)}

    method = Method(
        says="the composed feature of picture and words, drawn",
        options=options,
        prepare=prepare,
        run=run,
        captioned=False,
        draws=False,
        masks=False,
    )
    return Edit(
        nets=("decoder", "prior", retrieval.name),
        size=(retrieval.size, retrieval.size),
        methods={"compose": method},
        example_texts=("", "make red cube blue"),
    )


def own_retrieve_verb(config: ConfigDict) -> Retrieve:
    """The verb `retrieve` of the retrieval model, which the decoder holds."""
    retrieval = Retrieval(config)
    verb = retrieve_verb(retrieval.config)
    if not retrieval.frozen:
        return verb

    def own(nets: Nets) -> Nets:
        return {"g": nets[retrieval.name]}

    return dataclasses.replace(
        verb,
        nets=(retrieval.name,),
        pictures=lambda nets, x: verb.pictures(own(nets), x),
        queries=lambda nets, x, tokens, mask: verb.queries(own(nets), x, tokens, mask),
    )
