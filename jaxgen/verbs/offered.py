"""What a config's family can do with trained weights, and whether given weights fit it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.verbs import Verb
from jaxgen.verbs.encode.contract import Encode
from jaxgen.weights import parts
from jaxgen.weights.parts import Wanted
from jaxgen.weights.places import CONFIG


def verbs_of(config: ConfigDict) -> dict[str, Verb]:
    """The verbs of a config's family by name; {} for converted weights to train from only.

    Args:
      config: of a model that is made of others, what `jaxgen.weights.parts.filled` gives.

    Raises:
      UserError: there is no such family.
    """
    origin = config.get("origin")
    if origin is not None and origin.net != "g":
        return {}
    module = _family(config)
    whole = hasattr(module, "WHOLE") or config.get("parts")
    if origin is not None and hasattr(module, "resolve") and not whole:
        return {}  # a text-to-image generator alone, without what reads the text
    return dict(module.verbs(_for_this_machine(config)))


def codes_of(config: ConfigDict | None, what: str) -> Encode:
    """The verb `encode` of a model that gives codes.

    Args: config: of the model; None: of a file that stood alone. what: names it in the message.

    Raises:
      UserError: it gives none.
    """
    verb = verbs_of(config).get("encode") if config else None
    if not isinstance(verb, Encode) or not verb.codes:
        family = f"the family {config.get('family', '')}" if config else "a lone file"
        raise UserError(
            f"{what} must be a model that encodes pictures as codes, such as a vqgan, which "
            f"{family} does not"
        )
    return verb


def latents_of(config: ConfigDict | None, what: str) -> Encode:
    """The verb `encode` of an autoencoder of photos whose latents are drawn at random.

    Args: config: of the model; None: of a file that stood alone. what: names it in the message.

    Raises:
      UserError: it is another model.
    """
    verb = verbs_of(config).get("encode") if config else None
    if not isinstance(verb, Encode) or verb.moments is None or verb.channels != 3:
        raise UserError(
            f"{what} must be an autoencoder that encodes photos as latents, such as a run of "
            "configs/vae.py"
        )
    return verb


def wanted_parts(config: ConfigDict) -> dict[str, Wanted]:
    """What trained models a config's family is made of, by name; {} for most families.

    Raises:
      UserError: there is no such family.
    """
    ask = getattr(_family(config), "parts", None)
    return {} if ask is None else dict(ask(config))


def _family(config: ConfigDict) -> Any:
    family = config.get("family")
    unknown = UserError(f"the config's family {family!r} is not part of this jaxgen")
    if not isinstance(family, str) or not family.isidentifier():
        raise unknown
    try:
        return importlib.import_module(f"jaxgen.models.{family}")
    except ModuleNotFoundError as error:
        # Only the family itself: a missing dependency of it is another problem.
        if error.name != f"jaxgen.models.{family}":
            raise
        raise unknown from None


def nets_of(verbs: Mapping[str, Verb]) -> tuple[str, ...]:
    """Names of the nets that the verbs need."""
    return tuple(sorted({net for verb in verbs.values() for net in verb.nets}))


def verbs_in(folder: Path) -> dict[str, Verb]:
    """The verbs of the run or exported model in a folder."""
    config = configs.from_json(folder / CONFIG)
    return verbs_of(parts.filled(config, parts.of_model(folder, config, wanted_parts(config))))


def check_fit(folder: Path, verbs: Mapping[str, Verb], nets: Mapping[str, Any]) -> None:
    """Traces each verb on shapes alone: weights of another config fail here, with one line.

    Raises:
      UserError: a net is missing, or its arrays are not those of the config.
    """
    for verb in verbs.values():
        for net in verb.nets:
            if net not in nets:
                raise UserError(f"{folder} lacks the net '{net}'; it has {sorted(nets)}")
        try:
            verb.trace(_shapes({net: nets[net] for net in verb.nets}))
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"the weights in {folder} do not fit its {CONFIG}: {reason}; export the run again"
            ) from error


def _shapes(nets: Mapping[str, Any]) -> Any:
    import jax

    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), dict(nets))


def _for_this_machine(config: ConfigDict) -> ConfigDict:
    """A CPU computes bfloat16 slower than float32, so it uses float32; weights are that anyway."""
    import jax

    if jax.default_backend() != "cpu" or "train" not in config:
        return config
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.train.dtype = "float32"
    return changed
