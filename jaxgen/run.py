"""Using what was trained: one `Model` for run directories, exported folders and bundled models.

A run directory is what `jaxgen.main` leaves (config.json, checkpoints/, ...). An exported folder
holds only what use needs: config.json, weights.safetensors, README.md. `load` opens either, and
the models that come with the package by their name.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen import weights
from jaxgen.errors import UserError
from jaxgen.task import Upscale

BUNDLED = Path(__file__).parent / "bundled"
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
CHECKPOINTS = "checkpoints"


class Model:
    """A trained model, ready for use.

    Attributes:
      name: the run's or the folder's name.
      config: the resolved config that it was trained with.
      step: training step of the weights.
      nets: variables by net name, {"g": {"params": ..., "batch_stats": ...}}, averaged over
        training (EMA) where the run kept an average.
      metrics: of the evaluation at `step`, {} if there was none.
      verbs: what the family offers, by name; each is also a method here.
    """

    def __init__(
        self,
        name: str,
        config: ConfigDict,
        nets: Mapping[str, Any],
        step: int,
        metrics: Mapping[str, float] | None = None,
        verbs: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.config = config
        self.step = step
        self.metrics = dict(metrics or {})
        self.verbs = dict(_verbs(config) if verbs is None else verbs)
        # Only what the verbs need: no discriminator.
        self.nets = {verb.net: nets[verb.net] for verb in self.verbs.values()}
        self._placed: dict[str, Any] = {}

    @property
    def family(self) -> str:
        """Name of the folder in `jaxgen/models`."""
        return self.config.family

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each axis, of the verb `upscale`."""
        return self._verb("upscale").scale

    @property
    def parameters(self) -> int:
        """Number of trained parameters in the nets that the verbs use."""
        return sum(_count(net["params"]) for net in self.nets.values())

    def upscale(
        self, image: np.ndarray, tile: int | None = None, *, batch: int = 1, progress: Any = None
    ) -> np.ndarray:
        """Upscales one picture by `self.scale`.

        Args:
          image: uint8, colour (h, w, 3), gray (h, w), or with alpha (h, w, 4); alpha is enlarged
            by bicubic interpolation.
          tile: side of the tiles in low-resolution pixels; None: as large as memory allows. The
            result is the same.
          batch: tiles per device at a time.
          progress: called as progress(tiles done, tiles in all).

        Returns: uint8, (scale*h, scale*w) with the channels of `image`.

        Raises:
          UserError: the model does not upscale, or the array is no such picture.
        """
        from jaxgen.upscale import upscale_alpha, upscale_image

        verb = self._verb("upscale")
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
            return upscale_image(verb, self._variables(verb.net), image, tile, batch, progress)
        height, width = image.shape[:2]
        result = np.empty((height * verb.scale, width * verb.scale, 4), np.uint8)
        color, variables = image[..., :3], self._variables(verb.net)
        upscale_image(verb, variables, color, tile, batch, progress, out=result[..., :3])
        result[..., 3] = upscale_alpha(image[..., 3], verb.scale)
        return result

    def export(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Writes config, weights and a model card to a new folder, whole or not at all.

        Args:
          overwrite: replace a model exported there before (and nothing else).

        Raises:
          UserError: the folder is in use, or can't be written.
        """
        folder = Path(folder).expanduser().absolute()
        occupied = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
        if occupied and not (overwrite and _is_export(folder)):
            hint = "; pass overwrite to replace it" if _is_export(folder) else ""
            raise UserError(f"{folder} exists and is not empty: choose another folder{hint}")
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        try:
            partial.mkdir(parents=True)
            (partial / CONFIG).write_text(configs.to_json(self.config))
            weights.write_safetensors(partial / WEIGHTS, self.nets, self._facts())
            (partial / CARD).write_text(self._card(folder.name))
            if occupied:
                folder.rename(old)
            elif folder.is_dir():
                folder.rmdir()
            partial.rename(folder)
        except OSError as error:
            if occupied and old.exists() and not folder.exists():
                old.rename(folder)
            raise UserError(
                f"cannot write {folder}: {error.strerror or error}; choose another folder"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def _verb(self, name: str) -> Any:
        if name not in self.verbs:
            raise UserError(
                f"{self.name} (family {self.family}) does not {name}; it can: "
                f"{', '.join(sorted(self.verbs)) or 'nothing'}"
            )
        return self.verbs[name]

    def _variables(self, net: str) -> Any:
        """The net's variables on the device; put there at their first use."""
        if net not in self._placed:
            import jax

            from jaxgen import cache

            cache.enable()
            self._placed[net] = jax.device_put(self.nets[net])
        return self._placed[net]

    def _facts(self) -> dict[str, str]:
        """What the weights file's header says, so that a list of models needs no weights."""
        facts = {"family": self.family, "step": str(self.step), "parameters": str(self.parameters)}
        if "upscale" in self.verbs:
            facts["scale"] = str(self.scale)
        return {**facts, "metrics": json.dumps(self.metrics)}

    def _card(self, name: str) -> str:
        facts = self._facts()
        what = f"Super-resolution x{facts['scale']}" if "scale" in facts else "Image model"
        source = self.config.get("data", {}).get("source", "")
        lines = [
            f"# {name}",
            "",
            f"{what}, family {self.family}, {self.parameters:,} parameters, trained for "
            f"{self.step:,} steps{f' on {source}' if isinstance(source, str) and source else ''}.",
            "",
            "| evaluation | value |",
            "|---|---|",
            *(f"| {key} | {value:.4g} |" for key, value in sorted(self.metrics.items())),
            "",
            "```python",
            "import jaxgen",
            "",
            f'model = jaxgen.load("{name}")',
        ]
        if "scale" in facts:
            lines.append("large = model.upscale(array)  # uint8 (h, w, 3)")
        lines += ["```", "", f"`{CONFIG}` holds every setting of the training run.", ""]
        return "\n".join(lines)


def load(name_or_path: str | Path, step: int | None = None, best: bool = False) -> Model:
    """Opens a run directory, an exported folder, or a bundled model by its name.

    A path that exists comes before a bundled name.

    Args:
      step: which checkpoint of a run; None: the newest.
      best: the run's best evaluated checkpoint instead of the newest.

    Raises:
      UserError: nothing of that name, no checkpoint yet, damaged, or not made for this config.
    """
    folder = resolve(name_or_path)
    config = configs.from_json(folder / CONFIG)
    verbs = _verbs(config)
    if (folder / WEIGHTS).is_file():
        if step is not None or best:
            raise UserError(f"{folder} is an exported model: it has one step only")
        tree = weights.read_tree(folder / WEIGHTS)
        facts = weights.read_metadata(folder / WEIGHTS)
        found, metrics = _number(facts.get("step")), _metrics(facts.get("metrics"))
    else:
        from jaxgen.train.checkpoint import load_for_use
        from jaxgen.train.writers import read_metrics

        wanted = tuple(sorted({verb.net for verb in verbs.values()}))
        tree, found = load_for_use(folder, step=step, best=best, nets=wanted)
        metrics = _evaluated(read_metrics(folder), found)
    _check_fit(folder, verbs, tree)
    return Model(folder.name, config, tree, found, metrics, verbs)


def resolve(name_or_path: str | Path) -> Path:
    """The folder that a name or path means; reads nothing of it.

    Raises:
      UserError: nothing there, or a folder that is neither a run nor an exported model.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if path.name in (WEIGHTS, CONFIG) and path.is_file():
        path = path.parent
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise UserError(
                f"{path} is neither a run nor an exported model: it has no {CONFIG}"
                + _near_runs(path)
            )
        if not (path / WEIGHTS).is_file() and not (path / CHECKPOINTS).is_dir():
            raise UserError(
                f"{path} has no finished checkpoint yet; train it first: "
                "python -m jaxgen.main --config=... --workdir=" + str(path)
            )
        return path.absolute()
    names = bundled_names()
    if text in names:
        return BUNDLED / text
    if path.exists():
        raise UserError(f"{path} is a file; give the folder of a run or of an exported model")
    near = difflib.get_close_matches(text, [*names, *_siblings(path)], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = f"bundled models: {', '.join(names)}" if names else "no model is bundled"
    raise UserError(f"no model {text!r}{hint}; give a run's folder or a name ({known})")


def bundled_names() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.name for p in BUNDLED.glob("*") if _is_export(p))


def list_models() -> list[dict[str, Any]]:
    """One row per bundled model: name, family, scale, parameters, step, metrics, headline.

    Reads headers only, no weights. `scale` is None for models that don't upscale; `headline` is
    the card's first sentence.
    """
    rows = []
    for name in bundled_names():
        folder = BUNDLED / name
        facts = weights.read_metadata(folder / WEIGHTS)
        rows.append(
            {
                "name": name,
                "family": facts.get("family", configs.from_json(folder / CONFIG).family),
                "scale": _number(facts["scale"]) if "scale" in facts else None,
                "parameters": _number(facts.get("parameters")),
                "step": _number(facts.get("step")),
                "metrics": _metrics(facts.get("metrics")),
                "headline": _headline(folder / CARD),
            }
        )
    return rows


def _verbs(config: ConfigDict) -> dict[str, Any]:
    family = config.get("family")
    unknown = UserError(f"the config's family {family!r} is not part of this jaxgen")
    if not isinstance(family, str) or not family.isidentifier():
        raise unknown
    try:
        module = importlib.import_module(f"jaxgen.models.{family}")
    except ModuleNotFoundError as error:
        # Only the family itself: a missing dependency of it is another problem.
        if error.name != f"jaxgen.models.{family}":
            raise
        raise unknown from None
    return dict(module.verbs(_for_this_machine(config)))


def _for_this_machine(config: ConfigDict) -> ConfigDict:
    """A CPU computes bfloat16 slower than float32, so it uses float32; weights are that anyway."""
    import jax

    if jax.default_backend() != "cpu" or "train" not in config:
        return config
    changed = config.copy_and_resolve_references()
    with changed.unlocked():
        changed.train.dtype = "float32"
    return changed


def _check_fit(folder: Path, verbs: Mapping[str, Any], nets: Mapping[str, Any]) -> None:
    """Traces each verb on shapes alone: weights of another config fail here, with one line."""
    import jax

    for verb in verbs.values():
        if verb.net not in nets:
            raise UserError(f"{folder} lacks the net '{verb.net}'; it has {sorted(nets)}")
        if not isinstance(verb, Upscale):
            continue
        side = 8 * verb.multiple
        try:
            jax.eval_shape(
                verb.apply,
                jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), nets[verb.net]),
                jax.ShapeDtypeStruct((1, side, side, 3), np.float32),
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"the weights in {folder} do not fit its {CONFIG}: {reason}; export the run again"
            ) from error


def _evaluated(lines: list[dict[str, Any]], step: int) -> dict[str, float]:
    """Metrics of the evaluation at `step`, out of metrics.jsonl."""
    found: dict[str, float] = {}
    for line in lines:
        if line.get("kind") == "eval" and line.get("step") == step:
            found = {k: v for k, v in line.items() if isinstance(v, float)}
    return found


def _metrics(text: str | None) -> dict[str, float]:
    try:
        return dict(json.loads(text or "{}"))
    except (json.JSONDecodeError, TypeError, ValueError):
        return {}


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _headline(card: Path) -> str:
    """First paragraph of a model card after its title."""
    if not card.is_file():
        return ""
    paragraphs = card.read_text(encoding="utf-8").split("\n\n")
    return next((" ".join(p.split()) for p in paragraphs if p.strip() and p[0] != "#"), "")


def _is_export(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / CHECKPOINTS).is_dir()


def _near_runs(folder: Path) -> str:
    """ "runs" was given where "runs/srgan" was meant."""
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and (_is_run(p) or _is_export(p)))
    return f"; did you mean {inside[0]}?" if inside else ""


def _siblings(path: Path) -> list[str]:
    """Runs beside a path that does not exist, as the user would write them."""
    if not path.parent.is_dir():
        return []
    return [str(p) for p in path.parent.iterdir() if p.is_dir() and (_is_run(p) or _is_export(p))]


def _count(tree: Any) -> int:
    return sum(int(np.prod(a.shape)) for a in weights.flatten(tree).values())
