"""`model.edit`: a picture and words in, the picture changed as they say out."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import devices
from jaxgen.errors import UserError, near
from jaxgen.verbs import settings
from jaxgen.verbs.edit.contract import Edit, Method, Prepared, Request
from jaxgen.verbs.edit.found import ENDING, Found, fingerprint
from jaxgen.verbs.generate.begin import fit
from jaxgen.verbs.generate.draw import Progress, check_draws, default_batch
from jaxgen.verbs.generate.stepwise import checked
from jaxgen.verbs.memory import check_batch, check_holds
from jaxgen.verbs.use import Use
from jaxgen.weights.digests import sampled_fingerprint


class Edited(NamedTuple):
    """What became of a request.

    Attributes:
      source: uint8 (h, w, 3): the picture as the model takes it, or as it drew it.
      pictures: uint8 (targets, h, w, 3).
      reconstruction: uint8 (h, w, 3): what the method makes of the source without a change; None
        where there is none.
      maps: of the source and of each target (word, float32 (h', w') in [0, 1]) for its words; ()
        where nobody asked.
      found: what the method found of the picture, to keep and to begin from again; None where
        nobody asked.
    """

    source: np.ndarray
    pictures: np.ndarray
    reconstruction: np.ndarray | None = None
    maps: tuple[tuple[tuple[str, np.ndarray], ...], ...] = ()
    found: Found | None = None

    @property
    def error(self) -> float | None:
        """Mean squared error of the reconstruction in levels of 255; None where there is none."""
        if self.reconstruction is None:
            return None
        difference = self.reconstruction.astype(np.float64) - self.source
        return float(np.square(difference).mean())


class Changer(Use[Edit]):
    """A trained model's verb `edit`; see `Use`."""

    def __call__(
        self,
        picture: np.ndarray | None,
        source: str,
        target: str | Sequence[str] | None = None,
        /,
        *,
        method: str = "",
        mask: np.ndarray | None = None,
        seed: int = 0,
        number: int = 0,
        attention: bool = False,
        keep: bool = False,
        found: Found | None = None,
        **options: Any,
    ) -> Edited:
        """Edits one picture.

        Args:
          picture: uint8 (h, w, 3); of another size it is fitted to the model's, and said. None: the
            model draws the source itself, the picture `number` of `seed` that `generate` draws.
          source: what it shows, in words. Of a method that needs no caption: what to change.
          target: what it shall show; several give as many results. None: `source` is the target.
          method: one of `verb.methods`; "": the first.
          mask: (h, w) bool or uint8 of the picture's size, bright where it may change.
          attention: give the maps of the words, too.
          keep: give `Edited.found`, the picture's inversion or what Imagic learnt of it, too.
          found: such a one of an earlier edit of the same picture, so that it is not sought again.
          options: of the method, see `verb.methods[...].options`.

        Raises:
          UserError: what the model or the method does not do, or a setting out of range.
        """
        if target is None:
            source, target = "", source
        targets = (target,) if isinstance(target, str) else tuple(target)
        request = Request(
            source, targets, picture, mask, seed, number, attention, method, options, keep, found
        )  # fmt: skip
        return next(self.each([request]))

    def method(self, name: str = "") -> Method:
        """One of the methods; "": the first.

        Raises:
          UserError: there is none of that name, or this model cannot do it.
        """
        methods = self.verb.methods
        name = name or next(iter(methods))
        if name not in methods:
            raise UserError(
                f"no method {name!r}; {self.name} edits by {', '.join(methods)}"
                f"{near(name, tuple(methods))}"
            )
        if methods[name].refuses:
            raise UserError(f"{self.name} does not edit by {name}: {methods[name].refuses}")
        return methods[name]

    def prepare(self, request: Request) -> tuple[Request, Prepared]:
        """The request with its picture fitted to the model's size, and as a program takes it.

        Raises:
          UserError: as a call.
        """
        method = self.method(request.method)
        check_draws(request.seed, request.number, 1)
        if not request.targets:
            raise UserError("say what the picture shall show")
        if method.captioned and not request.source.strip():
            raise UserError("say what the picture shows, and then what it shall show: two texts")
        if request.picture is None and not method.draws:
            raise UserError(f"{request.method or 'this method'} edits a picture: give one")
        if request.mask is not None and not method.masks:
            raise UserError(f"{request.method or 'this method'} heeds no mask: leave it out")
        if request.mask is not None and request.picture is None:
            raise UserError("a mask is of a picture: give the picture, too")
        if request.attention and not method.attends:
            raise UserError(f"{request.method or 'this method'} has no maps of words to show")
        if request.picture is not None:
            picture, mask = fit(request.picture, request.mask, *self.verb.size)
            request = request._replace(picture=picture, mask=mask)
        request = self._begun(method, request)
        wanted = settings(method.options, request.options, self.name)
        return request, method.prepare(request, wanted)

    def _begun(self, method: Method, request: Request) -> Request:
        """With what was found before, also in the file that `inversion` names; see `Found`."""
        named = str(request.options.get("inversion", ""))
        if named.endswith(ENDING):
            options = {key: x for key, x in request.options.items() if key != "inversion"}
            request = request._replace(found=Found.load(named), options=options)
        if not (request.keep or request.found):
            return request
        if not method.finds:
            raise UserError(
                f"{request.method or 'this method'} seeks nothing that could be kept: leave out "
                "the inversion"
            )
        if request.picture is None:
            raise UserError("an inversion is of a picture: give the picture, too")
        if request.found is None:
            return request
        options = request.found.fitted(
            method.finds, self.fingerprint, fingerprint(request.picture),
            request.source if method.captioned else "", request.options,
        )  # fmt: skip
        return request._replace(options=options)

    @functools.cached_property
    def fingerprint(self) -> str:
        """By which the model's weights are known again."""
        return sampled_fingerprint(self.variables)

    def _found(self, request: Request, arrays: Any) -> Found | None:
        if arrays is None or request.picture is None:
            return None
        method = self.method(request.method)
        wanted = settings(method.options, request.options, self.name)
        return Found(
            method.finds, self.fingerprint, fingerprint(request.picture),
            request.source if method.captioned else "",
            {name: wanted[name] for name in method.finds_by(wanted)}, arrays,
        )  # fmt: skip

    def each(
        self,
        requests: Sequence[Request],
        *,
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Edited]:
        """Edits any pictures, one after the other; neighbours that are alike go in batches.

        Args:
          batch: requests at a time; None: as suits the pictures' size.
          progress: called as progress(requests done, requests in all).

        Raises:
          UserError: as a call; before anything is computed.
        """
        whole = [self.prepare(request) for request in requests]
        side = round(float(np.prod(self.verb.size)) ** 0.5)
        most = check_batch(max(1, default_batch(side) // 2) if batch is None else batch)
        done = 0
        for part in _alike(whole, most):
            yield from self._batch(part, most)
            done += len(part)
            if progress:
                progress(done, len(whole))

    def _batch(self, part: list[tuple[Request, Prepared]], size: int) -> Iterator[Edited]:
        """Requests that are alike; one alone is computed alone, more are filled up to `size`."""
        filled = part + part[-1:] * (0 if len(part) == 1 else size - len(part))
        each = jax.tree.map(lambda *a: np.stack(a), *(one.each for _, one in filled))
        method = self.method(part[0][0].method)
        shared, count = part[0][1].shared, len(filled)
        check_holds(
            devices.largest_activation(method.program, self.variables, shared, each),
            "an edit needs" if count == 1 else f"{count} edits at a time need",
        )
        try:
            found = method.program(self.variables, shared, each)
            arrays = jax.tree.map(np.asarray, found)
            checked(arrays["edits"], arrays.pop("finite"))
        except jax.errors.JaxRuntimeError as error:
            if not devices.out_of_memory(error):
                raise
            raise UserError(
                f"{size} edits at a time do not fit in the device's memory: give a smaller batch"
            ) from None
        for i, (request, prepared) in enumerate(part):
            one = jax.tree.map(lambda x, i=i: x[i], arrays)
            kept = self._found(request, one.get("found"))
            yield _edited(request, prepared, one)._replace(found=kept)


def _alike(
    whole: Sequence[tuple[Request, Prepared]], most: int
) -> Iterator[list[tuple[Request, Prepared]]]:
    """Neighbours of one program and the same settings, at most so many."""
    part: list[tuple[Request, Prepared]] = []
    for one in whole:
        if part and (len(part) == most or _kind(part[-1]) != _kind(one)):
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _kind(one: tuple[Request, Prepared]) -> Any:
    """Equal of requests that a batch can hold together."""
    request, (shared, each, _) = one
    values, tree = jax.tree.flatten(shared)
    shapes, form = jax.tree.flatten(each)
    return (
        request.method,
        tree,
        [np.asarray(value).tobytes() for value in values],
        form,
        [(np.shape(value), np.asarray(value).dtype) for value in shapes],
    )


def _edited(request: Request, prepared: Prepared, found: dict[str, Any]) -> Edited:
    source = found["source"] if request.picture is None else request.picture
    maps: tuple[tuple[tuple[str, np.ndarray], ...], ...] = ()
    if "maps" in found:
        maps = tuple(
            tuple((word, _map(seen[..., list(at)])) for word, at in words)
            for words, seen in zip(prepared.words, found["maps"], strict=True)
        )
    return Edited(source, found["edits"], found.get("reconstruction"), maps)


def _map(seen: np.ndarray) -> np.ndarray:
    """(h, w, tokens of a word) -> (h, w), 1 where it is largest."""
    total = seen.sum(axis=-1)
    return np.asarray(total / max(float(total.max()), 1e-12), np.float32)


bind = Changer
