"""Prompt-to-Prompt with a diffusion model: words replaced, added and weighed, pictures inverted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.edit import prompt_to_prompt as p2p
from jaxgen.edit import words
from jaxgen.edit.asked import read_pairs, read_spans, read_weights, within
from jaxgen.edit.words import Spelled
from jaxgen.models.ldm.edit import inversion, proximal
from jaxgen.models.ldm.edit.editing import Asked, Editing, walk
from jaxgen.models.ldm.edit.inversion import finds, prepared, start
from jaxgen.models.ldm.edit.inverted import Inverted
from jaxgen.models.ldm.edit.proximal import Proximal
from jaxgen.nn.control import Layer
from jaxgen.verbs import Option
from jaxgen.verbs.edit.contract import Method, Outcome, Prepared, Request

OPTIONS = {
    "kind": Option(
        "replace", "changed words take the maps of what they replace, or (refine) keep their own",
        choices=("replace", "refine"),
    ),
    "replace": Option(
        "0.8", "in which share of the steps the words' maps are the source's: 0.8, 0.2-0.7, or of "
        "words 0.8,dog:0.4",
    ),
    "self": Option("0.4", "in which share of the steps places look where the source's do"),
    "self_limit": Option(32, "side of the maps where they do, at most; published 16 and 32",
                         least=0, most=2**16),
    "weight": Option("", "how much words count, also below 0: dog:2.0,red:-1"),
    "blend": Option("", "the picture may change where these words are: SOURCE:TARGET, or one word"),
    "blend_without": Option("", "but not where these are"),
    "blend_above": Option(0.3, "share of a map's largest value above which a word is there",
                          least=0.0, most=1.0),
    "blend_without_above": Option(0.3, "the same of blend_without", least=0.0, most=1.0),
    "blend_from": Option(0.2, "after this share of the steps", least=0.0, most=1.0),
    "original": Option(0, "1: tables, and proximal, as the original's code makes them, with its "
                       "misalignment", least=0, most=1),
    **inversion.OPTIONS,
}  # fmt: skip
SENTENCE = Option(
    0.2, "of a model with the sentence's vector: up to which share of the steps it is the source's",
    least=0.0, most=1.0,
)  # fmt: skip


class Blend(NamedTuple):
    """Where b pictures may change: words, without (b, r, n); thresholds (b,); first step (b,)."""

    words: Any
    without: Any
    above: Any
    without_above: Any
    first: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Form:
    """What of a request makes another program: places of the largest self-attention that is
    replaced, whether maps are shown, how a picture is inverted ("": it is drawn), whether what is
    found of it is asked for, how guidance is shrunk (kind, as published; "": it is not)."""

    largest: int
    attention: bool
    inversion: str
    keep: bool
    proximal: tuple[str, bool]


def method(editing: Editing) -> Method:
    """See `jaxgen.verbs.edit.contract.Method`."""
    says = "Prompt-to-Prompt: the source's maps of words hold the layout"
    options = {**OPTIONS, **proximal.OPTIONS}
    if editing.condition.pooled:
        options["sentence"] = SENTENCE
    kinds = {"finds": "inversion", "finds_by": finds, "refusal": lambda: editing.crosses}
    return editing.method(says, prepare, run, options, attends=True, **kinds)


# ---- on the host ---------------------------------------------------------------------------------


def prepare(editing: Editing, request: Request, settings: Mapping[str, Any]) -> Prepared:
    """See `Method.prepare`."""
    spelled = tuple(editing.spelled(text) for text in (request.source, *request.targets))
    shared, name = prepared(editing, request, settings)
    largest = int(settings["self_limit"]) ** 2
    near, form = proximal.prepared(editing, request, settings, shared)
    shared["form"] = Form(largest, request.attention, name, request.keep, form)
    each: dict[str, Any] = editing.request(request) | near
    rows, calls = len(shared["plan"].times), int(shared["plan"].calls)
    each["tables"] = make_tables(editing, spelled, settings, calls, rows)
    if "sentence" in settings:
        each["sentence"] = np.int32(settings["sentence"] * calls + 1e-9)
    blend = make_blend(editing, spelled, settings, calls)
    if blend is not None:
        each["blend"] = blend
    shown = tuple(
        tuple(
            (word, tuple(i - editing.lead for i in at))
            for word, at in zip(one.words, one.places, strict=True)
        )
        for one in spelled
    )
    return Prepared(shared, each, shown)


def make_tables(
    editing: Editing,
    spelled: tuple[Spelled, ...],
    settings: Mapping[str, Any],
    calls: int,
    rows: int,
) -> p2p.Tables:
    """Of a source and its targets, without the batch's axis; times filled up to `rows`."""
    source, *targets = spelled
    length, lead = editing.tokens + editing.lead, editing.lead
    original = bool(settings["original"])
    weights = within(read_weights(settings["weight"]), targets, "weight")
    spans = within(read_spans(settings["replace"], "replace"), targets, "replace")
    made = []
    for target, weight, when in zip(targets, weights, spans, strict=True):
        mapper, taken = _mapper(source, target, length, settings["kind"], original)
        acts = words.replaced_when(target, when, calls, length, original)
        acts = np.pad(acts[:calls], ((0, rows - calls), (0, 0)))
        made.append((mapper, taken, words.equalizer(target, weight, length), acts))
    maps, kept, factors, times = (np.stack(x) for x in zip(*made, strict=True))
    bounds = read_spans(settings["self"], "self").get("", 0.0)
    return p2p.Tables(
        maps[:, lead:, lead:], kept[:, lead:], factors[:, lead:],
        times.swapaxes(0, 1)[:, :, lead:],
        np.array(words.span(bounds, calls), np.int32),
    )  # fmt: skip


def _mapper(
    source: Spelled, target: Spelled, length: int, kind: str, original: bool
) -> tuple[np.ndarray, np.ndarray]:
    if not original:
        found = words.align(source, target, length)
        return found if kind == "replace" else words.refined(source, target, *found)
    if kind == "replace":
        return words.original_replacement(source, target, length), np.ones(length, np.float32)
    mapper, taken = words.original_refinement(source.ids, target.ids, length)
    return words.as_matrix(mapper), taken


def make_blend(
    editing: Editing, spelled: tuple[Spelled, ...], settings: Mapping[str, Any], calls: int
) -> Blend | None:
    """Where the targets may differ; None where nobody said it."""
    if not settings["blend"] and not settings["blend_without"]:
        return None
    length, lead = editing.tokens + editing.lead, editing.lead

    def marks(name: str) -> np.ndarray:
        source, targets = read_pairs(settings[name], name)
        found = within(dict.fromkeys(targets, 1.0), spelled[1:], name)
        rows = [words.marked(spelled[0], source, length)]
        rows += [
            words.marked(one, tuple(said), length)
            for one, said in zip(spelled[1:], found, strict=True)
        ]
        return np.stack(rows)[:, lead:]

    return Blend(
        marks("blend"),
        marks("blend_without"),
        np.float32(settings["blend_above"]),
        np.float32(settings["blend_without_above"]),
        np.int32(settings["blend_from"] * calls + 1e-9),
    )


# ---- in the program ------------------------------------------------------------------------------


def map_layers(layers: tuple[Layer, ...], side: tuple[int, int]) -> tuple[Layer, ...]:
    """Whose maps of words are looked at: those whose size is nearest to a quarter of x's.

    Of Stable Diffusion the five of 16 x 16, as published.
    """

    def distance(layer: Layer) -> float:
        return abs(float(np.log(16 * layer.size[0] * layer.size[1] / (side[0] * side[1]))))

    cross = [layer for layer in layers if layer.kind == "cross"]
    least = min(map(distance, cross))
    return tuple(layer for layer in cross if distance(layer) == least)


def run(editing: Editing, nets: Any, shared: Any, each: Any) -> Outcome:
    """See `Method.run`."""
    form: Form = shared["form"]
    tokens = each["tokens"]
    b, r = tokens.shape[:2]
    asked = editing.embed(nets, tokens, each["mask"])
    found = start(editing, nets, shared, each, asked, form.inversion, r)
    near = None
    if form.proximal[0]:
        x0 = editing.clean(nets, each)
        near = Proximal(x0, each["quantile"], each["pull"], *form.proximal)
    x, maps = edit(
        editing, nets, shared, found, asked, (b, r), each["tables"], each.get("blend"),
        where=editing.where(each), largest=form.largest, keep=form.attention,
        sentence=each.get("sentence"), near=near,
    )  # fmt: skip
    outcome: Outcome = editing.finished(nets, x, each)
    if form.keep:
        outcome["found"] = found.each()
    if form.attention:
        assert maps is not None
        size = map_layers(editing.layers, editing.shape[:2])[0].size
        outcome["maps"] = maps.reshape(b, r, *size, -1)
    return outcome


def edit(
    editing: Editing,
    nets: Any,
    shared: Any,
    found: Inverted,
    asked: Asked,
    rows: tuple[int, int],
    tables: p2p.Tables,
    blend: Blend | None = None,
    *,
    where: jax.Array | None = None,
    largest: int,
    keep: bool = False,
    sentence: jax.Array | None = None,
    near: Proximal | None = None,
) -> tuple[jax.Array, jax.Array | None]:
    """(x (b, r, ...) after all steps, sums of the maps (b, r, places, tokens) or None).

    Args:
      found: the noise (b, ...). asked: of all b * r rows. where: (b, 1, h, w, 1), see
        `Editing.where`.
      keep: the maps, also without a blend. sentence: (b,) up to which step the sentences' vectors
        are the source's; None: there are none. near: how guidance is shrunk; None: it is not.
    """
    b, r = rows
    scale = shared.get("guidance", 1.0)
    unasked = editing.unasked(nets, shared, b * r)
    looked = map_layers(editing.layers, editing.shape[:2])
    size = looked[0].size
    keeps = keep or blend is not None
    names = frozenset(layer.name for layer in looked) if keeps else frozenset()

    def call(i: jax.Array, x: jax.Array, t: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        maps, _ = carry
        free = found.away_from(i, r, unasked)
        control = p2p.control(tables, i, rows, largest=largest, kept=names)
        flat, said = x.reshape(b * r, *x.shape[2:]), asked
        if sentence is not None:
            own = asked["label"].reshape(b, r, -1)
            label = jnp.where((i < sentence)[:, None, None], own[:, :1], own)
            said = asked | {"label": label.reshape(b * r, -1)}
        lead = None if near is None else near.lead(rows, scale)
        out, kept = editing.predict(nets, flat, t, said, free, scale, control, lead)
        if keeps:
            maps = maps + sum(kept.values()) / len(kept)
        out = out.reshape(x.shape)
        pulled = None
        if near is not None and lead is not None and lead.still is not None:
            row = jax.tree.map(lambda a: jnp.asarray(a)[i], shared["path"])
            pulled = near.pulled(row, x, out, lead.still, editing.schedule.steps)
        return out, (maps, pulled)

    def then(i: jax.Array, x: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        maps, pulled = carry
        x = found.held(i, x) if pulled is None else x + pulled
        if blend is not None:
            mask = p2p.blend_mask(
                maps, blend.words, blend.without, size, (x.shape[2], x.shape[3]),
                (blend.above, blend.without_above),
            )  # fmt: skip
            acts = (i >= blend.first).reshape(-1, 1, 1, 1, 1)
            x = jnp.where(acts, p2p.blended(x, mask), x)
        return (x if where is None else p2p.blended(x, where)), (maps, pulled)

    x = jnp.repeat(found.noise[:, None], r, axis=1)
    sums = jnp.zeros((b, r, size[0] * size[1], asked["context"].shape[1])) if keeps else None
    begun = (sums, None if near is None else jnp.zeros_like(x))
    x, (maps, _) = walk(shared["plan"], x, call, then, begun, found.noises)
    return x, maps
