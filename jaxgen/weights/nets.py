"""Nets from elsewhere: a run, an exported folder, a bundled model, or a weights file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.weights import averages, checkpoints
from jaxgen.weights.files import is_safetensors, parse_json, parse_number, read_metadata, read_tree
from jaxgen.weights.places import BUNDLED, CHECKPOINTS, CONFIG, WEIGHTS, bundled_names, is_export


class Opened(NamedTuple):
    """What was trained, and how far.

    nets: {net: variables} of NumPy arrays, {"g": {"params": ..., "batch_stats": ...}}, averaged
    where a run kept averages. step: that they are of, 0 where nobody noted it. metrics: of the
    evaluation at that step, {} if there was none. family: "" if unknown. config: None of a weights
    file that stands alone.
    """

    nets: dict[str, Any]
    step: int
    metrics: dict[str, float]
    family: str
    config: ConfigDict | None


def open_nets(
    source: str | Path,
    nets: tuple[str, ...] | None = None,
    step: int | None = None,
    best: bool = False,
    width: float | None = None,
) -> Opened:
    """Reads trained nets from any place that holds them.

    Args:
      source: a run's folder, an exported folder, the name of a bundled model, or a `.safetensors`
        file that jaxgen wrote. A path that exists comes before a bundled name.
      nets: names of the nets; None: all.
      step: which checkpoint of a run; None: the newest.
      best: the run's best evaluated checkpoint instead of the newest.
      width: of the average over the run's steps, where it kept what any length is made of
        (`jaxgen.weights.averages`); None: the average that it was evaluated with.

    Raises:
      UserError: nothing of this kind is there, it is damaged, or it lacks one of the nets.
    """
    path = locate(source)
    config = configs.from_json(path / CONFIG) if (path / CONFIG).is_file() else None
    file = path / WEIGHTS if path.is_dir() else path
    # An exported folder is one that has weights of its own, whatever else lies there.
    if (path / CHECKPOINTS).is_dir() and not file.is_file():
        if width is not None:
            if best and (noted := checkpoints.read_best(path)):
                step = noted["step"]
            found, at = averages.read_average(path, width, step, nets)
            return Opened(found, at, {}, _family(config), config)
        found, at = checkpoints.load_for_use(path, step, best, nets)
        metrics = _evaluated(path, at)
        return Opened(found, at, metrics, _family(config), config)
    if not file.is_file():
        raise UserError(f"{source} is neither a run, nor an exported model, nor a weights file")
    if step is not None or best:
        raise UserError(f"{source} is an exported model: it has one step only")
    if width is not None:
        raise UserError(f"{source} is an exported model: only a run keeps averages to choose from")
    tree = _read_own(file)
    checkpoints.check_nets(path, nets, list(tree))
    checkpoints.check_finite(tree, file)
    facts = read_metadata(file)
    return Opened(
        tree if nets is None else {name: tree[name] for name in nets},
        parse_number(facts.get("step")),
        parse_json(facts.get("metrics")),
        facts.get("family") or _family(config),
        config,
    )


def locate(source: str | Path) -> Path:
    """The folder or the file that a source means; it need not be there.

    `weights.safetensors` and `config.json` of an exported folder mean the folder.
    """
    path = Path(source).expanduser()
    if not path.exists() and str(source) in bundled_names():
        return BUNDLED / str(source)
    return path.parent if path.name in (WEIGHTS, CONFIG) and is_export(path.parent) else path


def _read_own(file: Path) -> dict[str, Any]:
    """The nets of a weights file; published weights are named as what they are."""
    tree = read_tree(file) if is_safetensors(file) else {}
    if not all(isinstance(net, dict) for net in tree.values()) or not tree:
        raise UserError(
            f"{file} is no weights file of jaxgen's own; of published weights make one first: "
            f"jaxgen convert {file} --to FOLDER"
        )
    return tree


def _family(config: ConfigDict | None) -> str:
    return "" if config is None else str(config.get("family", ""))


def _evaluated(run: Path, step: int) -> dict[str, float]:
    """Metrics of the evaluation at `step`: of `--mode=eval`, else of the training itself."""
    later = checkpoints.read_evaluation(run)
    if later.get("step") == step:
        return {k: v for k, v in later.items() if isinstance(v, float)}
    at, found = checkpoints.read_evaluated(run, step)
    return found if at == step else {}
