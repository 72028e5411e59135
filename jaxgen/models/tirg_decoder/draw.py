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
from jaxgen.models.tirg_decoder.networks import Asked
from jaxgen.models.tirg_decoder.prior import SCHEDULE, drawn_changes, given
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
        "length": Option(float(sampling.length), "of what guidance draws, which is too long",
                         least=0.0, most=10.0),
        "candidates": Option(int(sampling.candidates), "pictures drawn, of which the one counts "
                             "that shows best what it was drawn of", least=1, most=1024),
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
        drawn = best(nets, asked, drawn_changes(prior, nets["prior"], asked, z, shared))
        return {"edits": drawn.reshape(b, k, *x.shape[1:])}

    def best(nets: Nets, asked: Asked, changes: jax.Array) -> jax.Array:
        """The pictures of changes (c, n, e), of each row the one that shows what it is drawn of."""
        count, n = changes.shape[:2]
        many = Asked(*(jnp.tile(a, (count, *(1,) * (a.ndim - 1))) for a in asked))
        change = changes.reshape(count * n, -1)
        found: Any = decoder.apply(nets["decoder"], many, change)
        drawn = jnp.clip(found, -1.0, 1.0)
        seen, wanted = retrieval.features(nets, drawn), many.vector + change
        return nearest(drawn, *(a.reshape(changes.shape) for a in (seen, wanted)))

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


def nearest(drawn: jax.Array, seen: jax.Array, wanted: jax.Array) -> jax.Array:
    """Of each row's candidates the picture whose own feature is nearest to what it was drawn of.

    A feature of no scene is drawn as blots, and these have another one.

    Args: drawn: (c * n, ...), all rows of a candidate together. seen, wanted: (c, n, e).
    """
    apart = jnp.square(seen - wanted).mean(axis=-1)
    return drawn[apart.argmin(axis=0) * apart.shape[1] + jnp.arange(apart.shape[1])]


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
