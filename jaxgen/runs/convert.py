"""Published weights to models of ours and back: `jaxgen convert`.

A file's layout is recognised from its keys and shapes, never from its name; the families list the
layouts they know in `jaxgen/models/<family>/convert.py`, see `jaxgen.weights.layout`. Weights of
frozen networks (VGG and the like) are converted by `jaxgen.encoders.convert`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.runs import model as run
from jaxgen.runs.card import sizes_text
from jaxgen.runs.layouts import additions, find_layout, layouts, wholes
from jaxgen.verbs.offered import verbs_of, wanted_parts
from jaxgen.weights import Tree, parts, places, wrappers
from jaxgen.weights.files import is_safetensors
from jaxgen.weights.keymap import misfits
from jaxgen.weights.layout import Gathered, Layout, Sizes, Tensors, fitted
from jaxgen.weights.nets import open_nets


@dataclasses.dataclass(frozen=True)
class Converted:
    """One net's published weights as our variables.

    Attributes:
      family, layout, sizes: what the file was recognised as.
      config: of the family, with a net of these sizes; its section `origin` says where the weights
        come from.
      variables: {"params": ..., "batch_stats": ...}, NumPy arrays.
    """

    family: str
    layout: Layout
    sizes: Sizes
    config: ConfigDict
    variables: Tree

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(a.size for a in weights.flatten(self.variables["params"]).values())

    def model(self) -> run.Model:
        """The model, ready for use; of a net that can do nothing alone, for `export` only."""
        nets = {self.layout.net: self.variables}
        return run.Model(self.config.origin.file, self.config, nets, step=0)

    def export(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Writes config, weights and a model card, as `jaxgen.runs.model.Model.export`."""
        return self.model().export(folder, overwrite)


def convert(path: str | Path, layout: str | None = None, scale: int | None = None) -> Converted:
    """Reads and converts a published weight file.

    Args:
      path: `.safetensors`, `.npz`, or a PyTorch file (no code in it is run).
      layout: name of its layout; None: the one that is recognised.
      scale: by how much it enlarges; None: as its keys say. One of RRDBNet with one up-convolution
        enlarges by 2, or by 3, which they do not.

    Raises:
      UserError: unreadable; no layout known, or several alike; or names every missing, extra and
        misshapen key.
    """
    path = Path(path).expanduser()
    return _convert(path, weights.read_tensors(path), layout, scale)


def _convert(path: Path, tensors: Tensors, layout: str | None, scale: int | None) -> Converted:
    _check_not_ours(path, tensors)
    try:
        family, found, sizes, tensors = _recognise_within(path, tensors, layout)
        if scale is not None:
            if "scale" not in sizes:
                raise UserError(f"{found.name} enlarges nothing: leave out the scale")
            sizes = {**sizes, "scale": scale}
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    sizes, config, variables = fitted(found, path, tensors, sizes)
    config.origin = {
        "file": path.name,
        "layout": found.name,
        "net": found.net,
        "sizes": dict(sizes),
    }
    return Converted(family, found, sizes, config, variables)


def _recognise_within(
    path: Path, tensors: Tensors, layout: str | None
) -> tuple[str, Layout, Sizes, Tensors]:
    """As `recognise`, with the state dict that it is of: the file's own, or that of a net in it."""
    for name, state in wrappers.views(tensors):
        if any(_sizes_of(one, state) is not None for _, one in _tried(layout)):
            wrappers.say_view(path, name, tensors)
            return *recognise(state, layout), state
    return *recognise(tensors, layout), tensors  # which raises


def recognise(tensors: Tensors, layout: str | None = None) -> tuple[str, Layout, Sizes]:
    """(family, layout, sizes) of a state dict, from its keys and shapes.

    Of several layouts whose telling keys are there, the one with the fewest missing, unknown and
    misshapen keys is taken.

    Args:
      tensors: what `jaxgen.weights.read_tensors` gives.
      layout: name of the only one to try.

    Raises:
      UserError: none fits, or two fit alike.
    """
    tried = _tried(layout)
    fits = [
        (family, one, sizes)
        for family, one in tried
        if (sizes := _sizes_of(one, tensors)) is not None
    ]
    if not fits:
        known = ", ".join(one.name for _, one in tried)
        raise UserError(
            f"no known layout has these keys: {_some(tensors)}; tried {known} "
            "(`jaxgen convert --list` tells what each is)"
        )
    if len(fits) == 1:
        return fits[0]
    scores = [
        misfits(one.join(tensors), one.rules(sizes), one.expected(one.config(sizes)))
        for _, one, sizes in fits
    ]
    best = [fit for fit, score in zip(fits, scores, strict=True) if score == min(scores)]
    if len(best) > 1:
        names = " and ".join(one.name for _, one, _ in best)
        raise UserError(f"the keys fit {names} alike; say which it is with --layout")
    return best[0]


def _tried(layout: str | None) -> list[tuple[str, Layout]]:
    return layouts() if layout is None else [find_layout(layout)]


def to_torch(source: str | Path, layout: str | None = None) -> tuple[Layout, dict[str, Any]]:
    """A model's weights under PyTorch's keys.

    Args:
      source: a run (its newest checkpoint, averaged), an exported folder, a bundled model's name,
        or a published weight file, which is so moved from one layout to another.
      layout: name of the layout to write; None: the one that the weights came from, else the
        family's first that has such a network.

    Returns: (layout, state dict of float32 NumPy arrays).

    Raises:
      UserError: no such model, or no layout (or not the named one) has such a network.
    """
    config, nets = _open(source)
    family = config.family
    if layout is not None:
        home, wanted = find_layout(layout)
        if home != family:
            raise UserError(f"{wanted.name} is a layout of {home}; {source} is of {family}")
        candidates = [wanted]
    else:
        candidates = [one for home, one in layouts() if home == family]
        origin = config.get("origin", {}).get("layout")
        candidates.sort(key=lambda one: one.name != origin)
    for one in candidates:
        if one.net in nets and (sizes := one.read(config)) is not None:
            tensors = weights.to_torch(nets[one.net], one.rules(sizes))
            return one, dict(one.part(tensors))
    names = ", ".join(one.name for one in candidates) or f"none for the family {family}"
    raise UserError(
        f"no published layout has the networks of {source} (net {', '.join(nets)}); there are: "
        f"{names}"
    )


def write_own(
    source: str | Path,
    target: Path | None,
    layout: str | None = None,
    overwrite: bool = False,
    scale: int | None = None,
    prediction: str = "",
    loras: Sequence[tuple[Path, float]] = (),
    words: Sequence[Path] = (),
) -> str:
    """Published weights -> a folder (models) or a file (frozen networks) of ours.

    Args:
      source: a file, or a folder of several nets, of ours too, in whose nets what was learned
        beside them is merged.
      target: None: nothing is written, only looked at.
      scale: as of `convert`.
      prediction: "eps" or "v", what a denoiser predicts where its files do not say it.
      loras: (file, scale) of changes to its nets that are added.
      words: files of textual inversion, whose words it reads then.

    Returns: what it is and where it went; one line.

    Raises:
      UserError: see `convert`; or the target is in use or has the wrong ending.
    """
    from jaxgen.encoders import convert as encoders

    path = Path(source).expanduser()
    more = bool(loras or words)
    whole = gathered(source, prediction) if layout is None and (path.is_dir() or more) else None
    tensors = {} if whole is not None else weights.read_tensors(path)
    if whole is None and layout is None:
        whole = _whole(path, tensors, prediction)
    if whole is not None:
        return _write_whole(path, _changed(whole, loras, words), target, overwrite)
    if more:
        raise UserError(f"{path}: a LoRA changes a model of several nets, and this is one net")
    own = encoders.to_own(tensors) if layout is None and scale is None else None
    if own is None:
        converted = _convert(path, tensors, layout, scale)
        one, folder = converted.layout, ""
        if target is not None:
            folder = f"{converted.export(target, overwrite)}  "
        use = "" if verbs_of(converted.config) else f"; for train.init_from.{one.net}"
        return (
            f"{folder}{one.name} ({sizes_text(converted.sizes)}), family {converted.family}, "
            f"{converted.parameters:,} parameters{use}"
        )
    kind, trees = own
    [(arch, tree)] = trees.items()
    if target is not None:
        if target.suffix != ".safetensors":
            raise UserError(
                f"{target}: {kind.name} becomes a file; give one ending in .safetensors"
            )
        if target.exists() and not overwrite:
            raise UserError(f"{target} exists; choose another name, or --overwrite replaces it")
        weights.write_safetensors(target, trees, {"arch": arch, "origin": path.name})
    count = sum(a.size for a in weights.flatten(tree.get("params", tree)).values())
    where = "" if target is None else f"{target}  "
    return f"{where}{kind.name}: {arch}, {count:,} parameters"


def _changed(
    whole: Gathered, loras: Sequence[tuple[Path, float]], words: Sequence[Path]
) -> Gathered:
    """A model with what was learned beside its nets, and what files say, in them."""
    name = f"jaxgen.models.{whole.config.family}.convert"
    family = importlib.import_module(name) if importlib.util.find_spec(name) else None
    if not hasattr(family, "merged"):
        if loras or words:
            raise UserError(f"the family {whole.config.family} takes no LoRA and no new words")
        return whole
    assert family is not None
    whole = family.merged(whole)
    for file, scale in loras:
        whole = family.merge_lora(whole, file, scale)
    for file in words:
        whole = family.add_words(whole, file)
    return whole


def _write_whole(path: Path, whole: Gathered, target: Path | None, overwrite: bool) -> str:
    model = run.Model(path.name, whole.config, whole.nets, 0, made_of=whole.parts)
    where = "" if target is None else f"{model.export(target, overwrite)}  "
    origin = whole.config.get("origin")
    name = origin.layout if origin else "a model of ours"
    about = [name, f"family {whole.config.family}"]
    for key, said in (("target", "predicts"), ("condition", "condition")):
        if key in whole.config.model:
            about.append(f"{said} {whole.config.model[key]}")
    return f"{where}{', '.join(about)}, {model.parameters:,} parameters"


def gathered(source: str | Path, prediction: str = "") -> Gathered | None:
    """A model of several nets from published files, or one of ours; None: it is no such.

    Raises:
      UserError: it is one, and does not fit; or a folder with nothing that is known.
    """
    path = Path(source).expanduser()
    if (
        path.is_dir()
        and not (path / places.CONFIG).is_file()
        and (found := _whole(path, None, prediction))
    ):
        return found
    if path.is_file() and path.name not in (places.WEIGHTS, places.CONFIG):
        return _whole(path, weights.read_tensors(path), prediction)
    folder = places.resolve(source)
    config = configs.from_json(folder / places.CONFIG)
    made_of = parts.of_model(folder, config, wanted_parts(config))
    return Gathered(config, open_nets(folder).nets, made_of) if made_of else None


def _whole(path: Path, tensors: Tensors | None, prediction: str) -> Gathered | None:
    for _, one in wholes():
        if (found := one.read(path, tensors, prediction)) is not None:
            return found
    return None


def write_torch(
    source: str | Path, target: Path, layout: str | None = None, prediction: str = ""
) -> str:
    """Any model, or a file of ours of a frozen network -> a file with PyTorch's keys.

    Args: target: of a model of several nets also a new folder, as diffusers has them.

    Returns: the layout's name and the number of tensors; one line.

    Raises:
      UserError: see `to_torch`.
    """
    from jaxgen.encoders import convert as encoders

    path = Path(source).expanduser()
    for family, addition in additions():
        if layout is not None and addition.name.lower() == layout.lower():
            model = gathered(source, prediction)
            if model is None or model.config.family != family:
                raise UserError(f"{source} is no model that has a {addition.name}")
            return f"{addition.name}, {addition.write(model, target)} tensors"
    whole = gathered(source, prediction) if layout is None else None
    if whole is not None:
        for family, form in wholes():
            if (
                family == whole.config.family
                and form.folder == (not target.suffix)
                and form.write(whole, target)
            ):
                return f"{form.name}, whole"
    own = weights.read_tensors(path) if path.is_file() and is_safetensors(path) else {}
    found = encoders.to_published(own)
    if found is not None:
        name, tensors = found[0].name, found[1]
    else:
        one, tensors = to_torch(source, layout)
        name = one.name
    weights.write_tensors(target, tensors)
    return f"{name}, {len(tensors)} tensors"


def _sizes_of(layout: Layout, tensors: Tensors) -> Sizes | None:
    try:
        return layout.sizes(layout.join(tensors))
    # A foreign file may have a telling key with another number of dimensions.
    except (LookupError, ValueError, ArithmeticError):
        return None


def _open(source: str | Path) -> tuple[ConfigDict, Mapping[str, Tree]]:
    if Path(source).expanduser().is_file() and Path(source).name not in (
        places.WEIGHTS,
        places.CONFIG,
    ):
        converted = convert(source)
        return converted.config, {converted.layout.net: converted.variables}
    folder = places.resolve(source)
    config = configs.from_json(folder / places.CONFIG)
    # A net may have its sizes from what the model is made of.
    made_of = parts.of_model(folder, config, wanted_parts(config))
    return parts.filled(config, made_of), open_nets(folder).nets


def _check_not_ours(path: Path, tensors: Tensors) -> None:
    if is_safetensors(path) and all("/" in key for key in tensors):
        raise UserError(
            f"{path} is a file of jaxgen's own, not published weights; give its folder to the "
            "verbs, or the file itself to train.init_from"
        )


def _some(tensors: Tensors, count: int = 6) -> str:
    more = f", ... ({len(tensors)} in all)" if len(tensors) > count else ""
    return ", ".join(sorted(tensors)[:count]) + more
