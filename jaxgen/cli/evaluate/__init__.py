"""`jaxgen eval`: a command for each verb that is measured, and alone that of the model's verb."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from jaxgen.cli.common import DEFAULT_MODEL, with_device
from jaxgen.cli.evaluate.edit import edit
from jaxgen.cli.evaluate.embed import embed
from jaxgen.cli.evaluate.encode import encode
from jaxgen.cli.evaluate.generate import generate
from jaxgen.cli.evaluate.retrieve import retrieve
from jaxgen.cli.evaluate.upscale import upscale
from jaxgen.errors import UserError

# What a command's own options are for, and what is measured by it.
_FOR = {
    "generate": ("generated pictures", "draws pictures of texts"),
    "upscale": ("super-resolution", "is measured by PSNR and SSIM"),
    "encode": ("reconstructions", "encodes pictures"),
    "embed": ("pictures and texts", "tells which text belongs to which picture"),
    "edit": ("edits by words", "draws what a picture and words ask for"),
    "retrieve": ("composed retrieval", "finds pictures by a picture and words"),
}


class ByVerb(TyperGroup):
    """`jaxgen eval OPTIONS` is `jaxgen eval VERB OPTIONS`, by the verb of what they name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self._verb(ctx, args), *args]
        return super().parse_args(ctx, args)

    def _verb(self, ctx: Any, args: list[str]) -> str:
        """The command for these options; UserError where one of them is another's."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = True
        for command in self.commands.values():
            for param in command.params:
                if param.param_type_name == "option":
                    param.add_to_parser(parser, ctx)
        values, _, given = parser.parse_args(list(args))
        if values.get("pictures") is not None:
            verb, why = "generate", ", not for --pictures"
        elif values.get("list_path") is not None:
            verb, why = "edit", ", not for --list"
        else:
            name = values.get("model") or DEFAULT_MODEL
            verb = _verb_of(name)
            why = f"; {name} {_FOR[verb][1]}"
        own = {param.name for param in [*self.commands[verb].params, *self.get_params(ctx)]}
        for param in given:
            if param.name not in own:
                other = next(
                    other
                    for other, command in self.commands.items()
                    if param.name in {p.name for p in command.params}
                )
                raise UserError(f"{param.opts[0]} is for {_FOR[other][0]}{why}")
        return verb


def _verb_of(model: str) -> str:
    """By which command a model is measured."""
    if model == "bicubic":
        return "upscale"
    from jaxgen.verbs.offered import verbs_in
    from jaxgen.weights.places import is_composed, resolve

    if is_composed(model):
        return "generate"
    offered = verbs_in(resolve(model))
    for verb in _FOR:
        if verb in offered:
            return verb
    raise UserError(f"{model} can't be measured: it does none of {', '.join(_FOR)}")


evaluate = typer.Typer(cls=ByVerb)


@evaluate.callback()
def _evaluate() -> None:
    """Measure a model on data, or a folder of generated pictures against another.

    Without a command it is the one for the model's verb: `jaxgen eval --model runs/srgan --data
    Set5` is `jaxgen eval upscale` with these options, `--pictures` is `jaxgen eval generate`, and
    `--list` is `jaxgen eval edit`.
    """


evaluate.command()(with_device(upscale))
evaluate.command()(with_device(generate))
evaluate.command()(with_device(encode))
evaluate.command()(with_device(embed))
evaluate.command()(with_device(retrieve))
evaluate.command()(with_device(edit))
