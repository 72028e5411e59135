"""What `jaxgen generate` does for pictures that come about in steps, and for --from-png."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from jaxgen.cli.common import given_by_user
from jaxgen.errors import UserError


@contextlib.contextmanager
def step_by_step(
    draw: Any,
    options: Mapping[str, Any],
    names: list[str],
    out: Path,
    check: Callable[[], None],
) -> Iterator[Any]:
    """What is done while the pictures of `names` come about: a bar, and the file to go on from.

    At the end the file is removed; after a Ctrl-C it is named.
    """
    from tqdm import tqdm

    from jaxgen.verbs.generate.guide_run import Along

    saved = out.with_name(f"{out.name}.state.safetensors")
    iterations = options.get("iterations", draw.verb.options["iterations"].default)
    with tqdm(total=len(names) * iterations, unit="iteration", disable=None) as bar:

        def moved(count: int) -> None:
            check()
            bar.update(count)

        try:
            yield Along(saved=saved, moved=moved)
        except KeyboardInterrupt:
            if saved.exists():
                bar.close()
                print(f"{saved} is where the same command goes on", file=sys.stderr)
            raise
    saved.unlink(missing_ok=True)


def writing_frames(along: Any, folder: Path, names: list[str], every: int) -> Any:
    """`along` that also writes frames into a folder for each of the pictures."""
    from jaxgen.data.picture_files import write_image
    from jaxgen.verbs.files import check_writable

    folder = folder.expanduser()
    check_writable(folder)

    def write(job: int, number: int, picture: Any) -> None:
        write_image(folder / names[job] / f"{number:05d}.png", picture)

    return along._replace(frames=write, every=every)


# What may stand beside --from-png.
_BESIDE = ("from_png", "out", "model", "init", "mask", "overwrite", "show_steps", "show_masks")


def check_alone(context: typer.Context, beside: tuple[str, ...] = _BESIDE) -> None:
    """Raises UserError for a flag that --from-png knows already. beside: names of others."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in beside and given_by_user(context, name):
            label = parameter.opts[0] if parameter.opts[0].startswith("-") else "a prompt"
            raise UserError(f"--from-png draws the same again: leave out {label}")


def where(noted: dict[str, Any], name: str, now: Path | None) -> Path | None:
    """Where a picture is that was noted. Raises UserError for another one."""
    from jaxgen.verbs.generate.note import check_file

    held, flag = noted[name], f"--{name}"
    if held is None:
        if now is not None:
            raise UserError(f"--from-png draws the same again: leave out {flag}")
        return None
    path = now or Path(held["path"])
    check_file(path, held, flag)
    return path


def read_given(path: Path | None) -> Any:
    """The picture of a flag, uint8 (h, w, 3); None without one."""
    from jaxgen.data.picture_files import read_image

    return None if path is None else read_image(path.expanduser())
