"""Models put together of others that are open: `vqgan-clip:VQGAN,CLIP`.

Neither is changed or trained, so that there is nothing to save but their names.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.runs.model import Model, load
from jaxgen.verbs.embed.contract import Embed
from jaxgen.verbs.encode.contract import Encode
from jaxgen.verbs.generate.guided import JUDGE, STAGE, Guided
from jaxgen.weights.places import VQGAN_CLIP, bundled_names

# Where nobody names any.
BUNDLED_STAGE, BUNDLED_JUDGE = "vqgan_shapes", "clip_shapes"
CELLS = 16  # on a side of a picture of a VQGAN whose config names no data


class Composed(Model):
    """Models put together; see `Model`."""

    def export(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Raises UserError: each of the models is exported by itself."""
        raise UserError(f"{self.name} is two models put together: export each by itself")


def load_composed(name: str) -> Composed:
    """Opens `vqgan-clip:VQGAN,CLIP`, each of what `load` opens; `vqgan-clip` the bundled ones.

    Raises:
      UserError: another form, nothing there, or models that don't do what is asked of them.
    """
    stage, judge = _names(name)
    return compose(load(stage), load(judge))


def compose(stage: Model, judge: Model) -> Composed:
    """A VQGAN whose pictures follow what a CLIP sees in them: verb `generate`.

    Raises:
      UserError: models that don't do what is asked of them.
    """
    encode = stage.verbs.get("encode")
    if not isinstance(encode, Encode) or encode.vectors is None or encode.paint is None:
        raise UserError(
            f"{stage.name} (family {stage.family}) has no codes to draw with: {VQGAN_CLIP}: takes "
            "a vqgan first"
        )
    if encode.kind != "photo":
        raise UserError(f"{stage.name} encodes {encode.kind}s, which a CLIP can't judge")
    embed = judge.verbs.get("embed")
    if not isinstance(embed, Embed):
        raise UserError(
            f"{judge.name} (family {judge.family}) does not compare pictures and texts: "
            f"{VQGAN_CLIP}: takes a clip second"
        )
    try:
        embed.read("")
    except UserError as error:
        raise UserError(f"{judge.name}: {error}") from None
    nets = {f"{STAGE}/{net}": stage.nets[net] for net in encode.nets}
    nets |= {f"{JUDGE}/{net}": judge.nets[net] for net in embed.nets}
    side = stage.config.get("data", {}).get("size", 0) or CELLS * encode.factor
    guided = Guided(encode, embed, side // encode.factor * encode.factor)
    config = ConfigDict({"family": VQGAN_CLIP, "data": judge.config.get("data", {})})
    name = f"{VQGAN_CLIP}:{stage.name},{judge.name}"
    return Composed(name, config, nets, 0, verbs={"generate": guided})


def _names(name: str) -> tuple[str, str]:
    """The two models of a composed one's name."""
    _, colon, models = name.partition(":")
    if not colon:
        lacking = {BUNDLED_STAGE, BUNDLED_JUDGE} - set(bundled_names())
        if lacking:
            raise UserError(
                f"no {' and no '.join(sorted(lacking))} is bundled with this installation: name "
                f"your own, {VQGAN_CLIP}:VQGAN,CLIP, after training them with configs/vqgan.py and "
                "configs/clip.py"
            )
        return BUNDLED_STAGE, BUNDLED_JUDGE
    parts = [part.strip() for part in models.split(",")]
    if len(parts) != 2 or not all(parts):
        raise UserError(
            f"{name}: name two models with a comma between them, {VQGAN_CLIP}:VQGAN,CLIP"
        )
    return parts[0], parts[1]
