"""The verb `edit`: a picture, or one that the model draws, changed as words say."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.task import Nets, PyTree
from jaxgen.verbs import Option
from jaxgen.verbs.edit.found import Found
from jaxgen.verbs.generate.stepwise import finite, levels


class Request(NamedTuple):
    """One edit that is asked for.

    Attributes:
      source: what the picture shows, in words; "" of a method that asks for no caption.
      targets: what it shall show, or what is to change; several give as many results.
      picture: uint8 (h, w, 3) of any size; None: the model draws the source itself.
      mask: (h, w) bool or uint8 of the same size, bright where the picture may change; None:
        everywhere.
      seed, number: which noise a drawn source, or chance in the method, comes from: as the picture
        `number` of `source` and `seed` of the verb `generate`.
      attention: whether the maps of the words are asked for.
      method: one of the verb's; "": its first.
      options: of the method, by name. `inversion` may be a file of `Found`.
      keep: whether what is found of the picture is asked for.
      found: what an earlier edit of the same picture found, so that this need not.
    """

    source: str
    targets: tuple[str, ...]
    picture: np.ndarray | None = None
    mask: np.ndarray | None = None
    seed: int = 0
    number: int = 0
    attention: bool = False
    method: str = ""
    options: Mapping[str, Any] = MappingProxyType({})
    keep: bool = False
    found: Found | None = None


class Prepared(NamedTuple):
    """A request as a method's program takes it; NumPy arrays.

    Requests whose `shared` are equal, and whose `each` have the same shapes, are done in one batch.

    Attributes:
      shared: of the settings alone, such as the sampler's plan. Whatever changes the program is
        among its pytrees' static fields.
      each: of this request; in the program each array has the batch in front.
      words: of the source and of each target, where there are maps to show: (word, the places of
        its tokens in the maps' last axis).
    """

    shared: PyTree
    each: PyTree
    words: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...] = ()


# What a method's program gives, float32 pictures in [-1, 1]:
#   "edits" (b, targets, h, w, 3). "source" (b, h, w, 3): what was edited, where it was drawn.
#   "reconstruction" (b, h, w, 3): what comes back without a change, where the method has that.
#   "maps" (b, 1 + targets, h', w', tokens): how much a place looked at each token of its own text.
#   "found": arrays (b, ...), what was found of the pictures, where that was asked for.
Outcome: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """One way to edit.

    says: what it is, for lists. options: as of `jaxgen.verbs.Option`.
    prepare: (request, every option's value) -> Prepared; on the host. The picture is of the verb's
      size already, and the mask bool of that size. Raises UserError for what cannot be.
    run: (nets, shared, each) -> Outcome. Pure, jit-able.
    captioned: whether it must be told what the source shows; otherwise all texts are targets.
    draws: whether the model can draw the source itself. masks: whether a mask is heeded.
    attends: whether there are maps to show.
    finds: what it finds of a picture, so that later edits of it can begin there: methods that find
      the same share it. "": nothing.
    finds_by: every option's value -> names of the options that this depends on.
    refusal: () -> why this model cannot do it, one line that says what to do; "": it can. Asked
      when the verb is used: to look at a net's layers takes a while.
    """

    says: str
    options: Mapping[str, Option]
    prepare: Callable[[Request, Mapping[str, Any]], Prepared]
    run: Callable[[Nets, PyTree, PyTree], Outcome]
    captioned: bool = True
    draws: bool = True
    masks: bool = True
    attends: bool = False
    finds: str = ""
    finds_by: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda settings: ()
    refusal: Callable[[], str] = str

    @functools.cached_property
    def refuses(self) -> str:
        """What `refusal` says."""
        return self.refusal()

    @functools.cached_property
    def program(self) -> Callable[[Nets, PyTree, PyTree], dict[str, Any]]:
        """`run`, jitted, with uint8 pictures, and "finite" (b,) bool, whether edits are."""

        @jax.jit
        def program(nets, shared, each):
            made = self.run(nets, shared, each)
            kept = {"found": made.pop("found")} if "found" in made else {}
            return (
                kept
                | {"finite": finite(made["edits"])}
                | {
                    name: x.astype(jnp.float32) if name == "maps" else levels(x)
                    for name, x in made.items()
                }
            )

        return program


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """Pictures changed by words.

    nets: of all methods. size: (height, width) in pixels of the pictures.
    methods: by name; the first is what is done where none is named.
    example_texts: a caption and what it is changed to, for the model card; "" where there is none.
    """

    nets: tuple[str, ...]
    size: tuple[int, int]
    methods: Mapping[str, Method]
    example_texts: tuple[str, str] = ("", "")
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """See `jaxgen.verbs.Verb`."""
        return {"methods": [name for name, one in self.methods.items() if not one.refuses]}

    def says(self) -> str:
        """See `jaxgen.verbs.Verb`."""
        return "Pictures edited by words"

    def example(self, name: str, prompt: str) -> tuple[str, str]:
        """See `jaxgen.verbs.Verb`."""
        source, target = self.example_texts
        first = next(iter(self.methods.values()))
        said = [source or prompt, target] if first.captioned else [target]
        texts = ", ".join(f'"{text}"' for text in said)
        return (
            f"edited = model.edit(array, {texts}).pictures[0]",
            f"jaxgen edit photo.png {texts.replace(',', '')} --model {name} -o edited.png",
        )

    def trace(self, nets: Nets) -> None:
        """See `jaxgen.verbs.Verb`: the first method that the model can do, on a blank picture."""
        for method in self.methods.values():
            if method.refuses:
                continue
            request = Request("", ("",), np.zeros((*self.size, 3), np.uint8))
            prepared = method.prepare(request, defaults(method))
            each = jax.tree.map(lambda a: np.asarray(a)[None], prepared.each)
            jax.eval_shape(method.run, nets, prepared.shared, each)
            return


def defaults(method: Method) -> dict[str, Any]:
    """Every option's value where nobody sets one."""
    return {name: option.default for name, option in method.options.items()}
