"""The verb `edit` of a diffusion model: a table of methods, one module each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from jaxgen.models.ldm.edit import (
    by_inversion,
    imagic,
    instruct,
    inversion_free,
    masactrl,
    plug_and_play,
    prompt_to_prompt,
)
from jaxgen.models.ldm.edit.editing import Editing
from jaxgen.models.ldm.losses import LDMLosses
from jaxgen.verbs.edit.contract import Edit, Method

# By name, the one that is done where none is named first. A further method is one line here.
METHODS: dict[str, Callable[[Editing], Method]] = {
    "p2p": prompt_to_prompt.method,
    "masactrl": masactrl.method,
    "pnp": plug_and_play.method,
    "flowedit": inversion_free.flowedit,
    "ddcm": inversion_free.ddcm,
    "sdedit": inversion_free.sdedit,
    "dds": inversion_free.dds,
    "ddpm": by_inversion.ddpm,
    "diffedit": by_inversion.diffedit,
    "imagic": imagic.method,
    "instruct": instruct.method,
}


def edit_verb(losses: LDMLosses, config: ConfigDict) -> Edit:
    """The verb of a config with its parts filled in."""
    editing = Editing(losses, config)

    def changing(method: Method) -> Method:
        """The method with the nets that `model.change` makes of the trained ones."""
        return dataclasses.replace(
            method, run=lambda nets, *more: method.run(losses.changed(nets), *more)
        )

    methods = {name: changing(make(editing)) for name, make in METHODS.items()}
    texts = ("a large red circle", "a large blue circle")
    if editing.instruct:  # the only one that it can do comes first
        methods, texts = {"instruct": methods.pop("instruct"), **methods}, ("", "make it blue")
    return Edit(nets=editing.nets, size=editing.size, methods=methods, example_texts=texts)
