"""What a user would run in jaxgen's place: PyTorch, torch.compile, ONNX Runtime and OpenVINO.

`forms` says which of them meet jaxgen in a case, `inference` and `training` make what is timed of a
PyTorch network. All of them get the same network, weights, input and number of threads. A rival
that is not there, or can't do a case, is left out: a dash in the table.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import common
from benchmarks.common import THREADS, Start

EAGER, COMPILED = "PyTorch", "torch.compile"
ONNX, OPENVINO = "ONNX Runtime", "OpenVINO"
NAMES = (EAGER, COMPILED, ONNX, OPENVINO)
_EXPORT = ("torch", "onnx", "onnxscript")
_PACKAGES = {
    EAGER: ("torch",),
    COMPILED: ("torch",),
    ONNX: (*_EXPORT, "onnxruntime"),
    OPENVINO: (*_EXPORT, "openvino"),
}
LAYOUTS = ("channels_last", "contiguous_format")


class Form(NamedTuple):
    """One way to run a rival.

    layout: PyTorch's memory layout. passive: whether OpenMP's threads sleep between their loops
      (OMP_WAIT_POLICY) instead of spinning, which is the default.
    """

    rival: str
    layout: str = LAYOUTS[0]
    passive: bool = False

    def start(self, command: Sequence[str]) -> Start:
        """The worker of this form; `of` reads what it adds to the command."""
        name = self.layout.removesuffix("_format") + (", passive" if self.passive else "")
        environment = {"OMP_WAIT_POLICY": "passive"} if self.passive else {}
        worker = ["--worker", f"{self.rival}/{self.layout}"]
        return Start(self.rival, name, [*command, *worker], environment)

    @classmethod
    def of(cls, worker: str) -> Form:
        """The form that a worker's command line names."""
        return cls(*worker.split("/"))


def why_not(rival: str) -> str:
    """What keeps the rival from running here; empty: nothing."""
    missing = [name for name in _PACKAGES[rival] if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    if rival == COMPILED and not any(map(shutil.which, compilers)):
        return "no C++ compiler (g++)"
    return ""


def available() -> tuple[str, ...]:
    """The rivals that can run here; says in one line each which can't.

    Ends the program if there is none to compare with.
    """
    found = []
    for rival in NAMES:
        if reason := why_not(rival):
            print(f"without {rival}: {reason}", flush=True)
        else:
            found.append(rival)
    if not found:
        sys.exit("nothing to compare with: pip install -c constraints.txt -e '.[bench]'")
    return tuple(found)


def forms(
    rivals: Sequence[str], *, train: bool, dtype: str, gpu: bool, layouts: Sequence[str] = LAYOUTS
) -> list[Form]:
    """Every form that is timed.

    On a CPU eager PyTorch in each memory layout and with spinning and sleeping threads, the others
    in their default. ONNX Runtime and OpenVINO take part in float32 inference on a CPU.
    """
    if gpu:
        return [Form(rival) for rival in (EAGER, COMPILED) if rival in rivals]
    found = [Form(EAGER, layout, passive) for layout in layouts for passive in (False, True)]
    found.append(Form(COMPILED))
    if not train and dtype == "float32":
        found += [Form(ONNX), Form(OPENVINO)]
    return [form for form in found if form.rival in rivals]


def compare(module: str, case: Any, forms: Sequence[Form], rounds: int) -> dict[str, Any]:
    """Times jaxgen and the rivals' forms in turn, each in a worker `python -m module`.

    case: a dataclass; it goes to the workers as `--case`, and into the report. They share a folder,
    `--folder`, where jaxgen's, which begins, leaves what the others need.
    """
    fields = dataclasses.asdict(case)
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", module, "--case", json.dumps(fields), "--folder", folder]
        starts = [form.start(command) for form in forms]
        return {"case": fields, **common.compare([*command, "--worker", "jax"], starts, rounds)}


def run(
    module: str,
    args: argparse.Namespace,
    case: Callable[[bool], Any],
    serve: tuple[type, Callable[[Any, Path], None], Callable[[Any, Form, Path], None]],
    *,
    against: Sequence[str],
    rounds: tuple[int, int],
    cells: Callable[[Any], Mapping[str, str]],
) -> None:
    """A benchmark of one training case: its workers, or the comparison with table and report.

    Args:
      module: that the workers run. args: of `common.add_arguments`.
      case: (whether on a GPU) -> the case, a dataclass with or without a `dtype`.
      serve: the case's class, jaxgen's worker and that of a rival's form.
      against: the rivals that can do it.
      rounds: with and without --quick.
      cells: case -> what the table says of it.
    """
    kind, serve_jax, serve_torch = serve
    if args.worker:
        given = kind(**json.loads(args.case))
        if args.worker == "jax":
            return serve_jax(given, args.folder)
        return serve_torch(given, Form.of(args.worker), args.folder)
    report: dict[str, Any] = {"machine": common.machine()}
    gpu = common.on_gpu()
    if not gpu:
        common.keep_to_threads()
    names = [name for name in available() if name in against]
    one = case(gpu)
    starts = forms(names, train=True, dtype=getattr(one, "dtype", "float32"), gpu=gpu)
    result = compare(module, one, starts, rounds[0] if args.quick else rounds[1])
    report["cases"] = [result]
    columns = {
        **cells(one),
        **dict(zip(common.head(names), common.cells(result, names), strict=True)),
    }
    if "compile_s" in result["jaxgen"]:
        columns["compiled in"] = f"{result['jaxgen']['compile_s']:.0f} s"
    text = common.table([list(columns), list(columns.values())])
    print("\n" + text, flush=True)
    common.finish(report, args.json, text, args.into)


# ------------------------------------------------------------------------------- what is timed


def device() -> str:
    """PyTorch's device; sets the number of its threads."""
    import torch

    torch.set_num_threads(THREADS)
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def inference(
    form: Form, net: Any, x: np.ndarray, dtype: str, folder: Path
) -> tuple[Callable[[], Any], Callable[[Any], np.ndarray]]:
    """One forward pass of a PyTorch network as the rival does it.

    Args:
      net: pictures (b, 3, h, w) -> pictures; x: its input; folder: for the exported network.

    Returns: (run, fetch): `run` gives what `fetch` turns into an array (b, 3, h', w').
    """
    net = net.eval()
    if form.rival in (ONNX, OPENVINO):
        session = _onnx if form.rival == ONNX else _openvino
        return session(_exported(net, x, folder / "net.onnx"), x), np.asarray
    import torch

    place = device()
    forward, low = _placed(form, net, x)

    def run() -> Any:
        with torch.inference_mode(), _precision(place, dtype):
            y = forward(low)
        synchronize()
        return y

    return run, lambda y: y.float().cpu().numpy()


def training(
    form: Form, net: Any, x: np.ndarray, target: np.ndarray, dtype: str, loss: str
) -> Callable[[], float]:
    """One step with Adam (rate 1e-4) of a PyTorch network; gives the loss ("mse" or "l1")."""
    import torch

    place = device()
    forward, low = _placed(form, net.train(), x)
    high = torch.tensor(target, device=place).to(memory_format=getattr(torch, form.layout))
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)
    functional = torch.nn.functional
    measure = functional.l1_loss if loss == "l1" else functional.mse_loss

    def run() -> float:
        optimizer.zero_grad()
        with _precision(place, dtype):
            y = forward(low)
        value = measure(y.float(), high)
        value.backward()
        optimizer.step()
        synchronize()
        return float(value.detach())

    return run


def _placed(form: Form, net: Any, x: np.ndarray) -> tuple[Any, Any]:
    """The network, compiled if asked for, and its input on PyTorch's device, in the layout."""
    import torch

    place, memory = device(), getattr(torch, form.layout)
    net.to(place, memory_format=memory)
    forward = torch.compile(net) if form.rival == COMPILED else net
    return forward, torch.tensor(x, device=place).to(memory_format=memory)


def _precision(place: str, dtype: str) -> contextlib.AbstractContextManager:
    import torch

    return torch.autocast(place, torch.bfloat16, enabled=dtype == "bfloat16")


def _exported(net: Any, x: np.ndarray, path: Path) -> Path:
    """The network as an ONNX file for inputs of x's shape; written once in a folder."""
    import torch

    if not path.exists():
        # It warns that torchvision is absent, and of its own deprecations.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (torch.tensor(x),), path, dynamo=True, verbose=False)
    return path


def _onnx(path: Path, x: np.ndarray) -> Callable[[], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)[0]


def _openvino(path: Path, x: np.ndarray) -> Callable[[], np.ndarray]:
    import openvino

    # Its default precision on CPUs that have bfloat16 is bfloat16.
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer([x], share_inputs=True, share_outputs=True)[0]
