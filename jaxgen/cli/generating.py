"""`jaxgen generate` from its flags on: checks before a model is opened, and the drawing."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxgen.cli.common import DEFAULT_GENERATOR, interruptible, read_options
from jaxgen.cli.drawing import read_given, step_by_step, writing_frames
from jaxgen.errors import UserError, shown

MOST_WARNINGS = 5
MOST_PICTURES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Ask:
    """What the flags say; with --from-png, what that picture notes in their place.

    texts: the prompts, each once. n: None where nobody says it. side: (height, width) of --size.
    option: as given; named: the options with flags of their own. noted: what `from_png` holds.
    """

    texts: list[str]
    out: Path | None
    model: str
    n: int | None
    seed: int
    first: int
    same_noise: bool
    side: tuple[int, int] | None
    batch: int | None
    option: list[str] | None
    named: Mapping[str, Any]
    init: Path | None
    mask: Path | None
    upscale: str | None
    start_from: str | None
    frames: Path | None
    frame_every: int
    show_steps: int | None
    interpolate: int | None
    show_masks: bool
    overwrite: bool
    from_png: Path | None
    noted: Mapping[str, Any] | None

    @property
    def guided(self) -> bool:
        """Whether pictures come about by two models put together."""
        from jaxgen.weights.places import is_composed

        return is_composed(self.model)

    @property
    def count(self) -> int:
        """Pictures of each prompt, or strips."""
        one = self.guided or self.upscale is not None or self.interpolate is not None
        return self.n if self.n is not None else (1 if one else 8)


def draw_pictures(ask: Ask) -> None:
    """Draws what is asked for and says where it lies.

    Raises:
      UserError: flags that do not go together or with the model, or a place that is taken.
    """
    from jaxgen.verbs.files import check_writable

    _check_flags(ask)
    out, folder = _place(ask)
    _check_bundled(ask.model)
    given = read_given(ask.init), read_given(ask.mask)
    check_writable(out if folder else out.parent)

    from jaxgen.runs.model import load
    from jaxgen.verbs import settings
    from jaxgen.verbs.generate import enlarged, files, note
    from jaxgen.verbs.upscale import beside
    from jaxgen.weights.digests import sampled_fingerprint

    loaded = load(ask.model)
    draw: Any = loaded.generate
    enlarge = None if ask.upscale is None else load(ask.upscale).upscale
    if ask.start_from is not None:
        draw = draw.starting_from(load(ask.start_from).generate)
    weights = sampled_fingerprint(loaded.nets)
    options = _options(ask, draw, weights)
    _check_model(ask, draw, options, given)
    read = [draw.read(text) for text in ask.texts]
    _warn(ask.texts, read)
    if options.get("negative"):
        _warn([options["negative"]], [draw.read(options["negative"])])
    how = files.How(
        ask.seed, ask.first, ask.same_noise, ask.batch, options, ask.side,
        init=given[0], mask=given[1],
    )  # fmt: skip
    if ask.interpolate is None:
        about: dict[str, Any] = {
            "model": ask.model, "weights": weights, "prompts": ask.texts, "n": ask.count,
            "seed": ask.seed, "first": ask.first, "same_noise": ask.same_noise, "size": ask.side,
            "batch": ask.batch, "options": settings(draw.verb.options, options, ask.model),
            "init": note.of_file(ask.init), "mask": note.of_file(ask.mask),
            "start_from": ask.start_from, "upscale": ask.upscale,
        }  # fmt: skip
        how = how._replace(about=about)
        strips = files.plan(ask.texts, read, ask.count, how, ask.show_masks)
    else:
        strips = files.plan_ways(ask.texts, read, ask.interpolate, ask.count, how)
    todo = strips
    if folder and not ask.overwrite:
        todo = files.missing(strips, out, ask.show_masks, ask.show_steps is not None)
    total, left = (sum(len(strip.cells) for strip in some) for some in (strips, todo))
    alone = not folder and total == 1 and (ask.guided or enlarge is not None)
    if alone and enlarge is not None:
        beside.check_fits(out, ask.side or (draw.size, draw.size), enlarge.scale)
    began = time.monotonic()
    with interruptible() as check, contextlib.ExitStack() as stack:
        how, moved = _watched(ask, draw, how, todo, total, out, check, stack)
        if alone:
            enlarged.write_alone(draw, strips[0], out, how, check, enlarge)
        elif not folder:
            files.write_sheet(draw, todo, out, how, moved, ask.show_masks)
        elif todo:
            files.write_folder(draw, todo, out, how, moved, ask.show_masks)
        if folder and enlarge is not None:
            enlarged.write_folder(strips, out, how, check, enlarge, ask.overwrite)
    if folder and todo:
        print(files.write_folder_sheet(strips, out, ask.show_masks))
    if alone and enlarge is not None:
        print(beside.place(out, enlarge.scale))
    print(f"{out}  {left} pictures  {time.monotonic() - began:.1f} s")
    if left < total:
        print(f"{total - left} of {total} were there already (--overwrite replaces them)")


def _check_flags(ask: Ask) -> None:
    """Raises UserError for flags that do not go together."""
    from jaxgen.verbs.generate.draw import check_draws

    way = ask.interpolate is not None
    for given, name in ((ask.start_from, "--start-from"), (ask.frames, "--frames")):
        if given is not None and not ask.guided:
            raise UserError(f"{name} is of --model vqgan-clip:VQGAN,CLIP alone")
    if ask.guided:
        if way:
            raise UserError(f"{ask.model} has no way between two pictures: leave --interpolate out")
        if ask.init is not None:
            raise UserError(f'{ask.model} begins with a picture by --option "init=PICTURE"')
    check_draws(ask.seed, ask.first, ask.count + way)
    if not ask.texts:
        raise UserError('say what to draw: jaxgen generate "a large red circle"')
    pictures = ask.count * (ask.interpolate or len(ask.texts))
    if pictures > MOST_PICTURES:
        raise UserError(
            f"{shown(pictures)} pictures are too many for one call: draw {MOST_PICTURES} at most, "
            "and go on by --first"
        )
    if way:
        for wanted, name in (
            (ask.show_masks, "--show-masks"), (ask.same_noise, "--same-noise"),
            (ask.side, "--size"), (ask.upscale, "--upscale"), (ask.init, "--init"),
            (ask.show_steps, "--show-steps"),
        ):  # fmt: skip
            if wanted:
                raise UserError(f"{name} and --interpolate exclude each other; give one")
        if len(ask.texts) > 2:
            raise UserError(f"--interpolate goes between two prompts, not {len(ask.texts)}")
    if ask.mask is not None and ask.init is None:
        raise UserError("--mask is of the picture to begin with: give --init, too")


def _place(ask: Ask) -> tuple[Path, bool]:
    """(where to write, whether that is a folder).

    Raises:
      UserError: it is taken, or is one file for more than it can hold.
    """
    from jaxgen.verbs.generate import files

    way = ask.interpolate is not None
    out = ask.out.expanduser() if ask.out else files.new_sheet(ask.texts, ask.seed, way)
    folder = files.is_folder(out, filmed=ask.show_steps is not None)
    if folder:
        return out, True
    if out.exists() and not ask.overwrite:
        raise UserError(f"{out} exists; give --overwrite to replace it")
    pictures = len(ask.texts) * ask.count
    files.check_sheet(pictures if ask.interpolate is None else ask.count * ask.interpolate)
    if ask.upscale is not None and pictures > 1:
        raise UserError(f"{pictures} pictures with --upscale need a folder: give one to -o")
    return out, False


def _options(ask: Ask, draw: Any, weights: str) -> dict[str, Any]:
    """The model's options that are asked for.

    Raises:
      UserError: one that there is not; or other weights than those that --from-png notes.
    """
    if ask.noted is None:
        return {**read_options(ask.option, draw.verb.options), **ask.named}
    if weights != ask.noted["weights"]:
        raise UserError(
            f"{ask.model} has other weights than what drew {ask.from_png} "
            f"({ask.noted['weights']}); give --model where those are"
        )
    return dict(ask.noted["options"])


def _check_model(ask: Ask, draw: Any, options: Mapping[str, Any], given: tuple[Any, Any]) -> None:
    """Raises UserError for what the model does not do."""
    if ask.guided:
        draw.check(options)
        if ask.side is not None:
            draw.check_size(ask.side)
    else:
        draw.check(options, ask.side, *given)
    if ask.show_masks:
        draw.check_masks()
    if ask.show_steps is not None and not _in_steps(ask, draw):
        raise UserError(f"{ask.model} draws a picture at once: there are no steps to show")


def _in_steps(ask: Ask, draw: Any) -> bool:
    return not ask.guided and draw.verb.stepwise is not None


def _watched(
    ask: Ask,
    draw: Any,
    how: Any,
    todo: list[Any],
    total: int,
    out: Path,
    check: Callable[[], None],
    stack: contextlib.ExitStack,
) -> tuple[Any, Callable[[], None]]:
    """(`how` with who looks on, what is called after each picture): bars, frames, Ctrl-C."""
    from tqdm import tqdm

    from jaxgen.verbs.generate.film import Film

    names = [cell.name for strip in todo for cell in strip.cells]
    if ask.guided:
        along = stack.enter_context(step_by_step(draw, how.options, names, out, check))
        along = along._replace(anew=ask.overwrite)
        if ask.frames is not None:
            along = writing_frames(along, ask.frames, names, ask.frame_every)
        how = how._replace(along=along)
    # disable=None: no bar where stderr is not a terminal.
    bar = stack.enter_context(
        tqdm(
            total=total, initial=total - len(names), unit="picture",
            disable=True if ask.guided else None,
        )
    )  # fmt: skip

    def moved() -> None:
        check()
        bar.update()

    def stepped(done: int, calls: int) -> None:
        check()
        bar.set_postfix_str(f"step {done} of {calls}")

    if _in_steps(ask, draw) and ask.interpolate is None:
        how = how._replace(film=Film(ask.show_steps or 0, stepped))
    return how, moved


def _check_bundled(model: str) -> None:
    """A clear line where the default is meant and this installation lacks it."""
    from jaxgen.weights.places import bundled_names

    if model == DEFAULT_GENERATOR and not Path(model).exists() and model not in bundled_names():
        raise UserError(
            "no text-to-image model is bundled with this installation; give --model, after "
            "training one: python -m jaxgen.main --config=configs/dfgan.py"
        )


def _warn(texts: list[str], read: list[Any]) -> None:
    """Names the words that the model does not know, of the first few prompts that have such."""
    from jaxgen.data.text.tokens import complaint

    problems = [(text, complaint(one)) for text, one in zip(texts, read, strict=True)]
    problems = [(text, problem) for text, problem in problems if problem]
    for text, problem in problems[:MOST_WARNINGS]:
        named = f"{text!r}: " if len(texts) > 1 else ""
        print(f"warning: {named}{problem}", file=sys.stderr)
    if len(problems) > MOST_WARNINGS:
        left = len(problems) - MOST_WARNINGS
        print(f"warning: and so in {left} more prompts", file=sys.stderr)
