"""Features per second of the FID's Inception against torch-fidelity's, from uint8 pictures.

    python -m benchmarks.metrics [--quick] [--json benchmarks/results/metrics_cpu.json]

A batch of 64x64 pictures, resized by TensorFlow 1's bilinear rule to 299x299, to 2048 features;
random weights (the arithmetic is the same). The batch is 8, on a GPU 128. Where torch-fidelity is
not installed (it is no dependency; it needs torchvision, too) its place takes a plain PyTorch
module of the same layers, and the report says so. Processes are timed in turn as in
`benchmarks.srgan`; the ratio is of features per second, jaxgen's to the referee's (the better of
spinning and sleeping OpenMP threads): asked for is 1.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals
from jaxgen.encoders.inception_layout import AVERAGE, INPUT, LAYERS, Mixed, torch_rules
from jaxgen.nn.inception import MAX_POOL, Step

SIDE = 64


def pictures(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)


def serve_jaxgen(batch: int) -> None:
    import jax

    from jaxgen import heap
    from jaxgen.encoders import inception

    heap.keep_freed_memory()
    variables = jax.device_put(inception.init_variables(0))
    x = pictures(batch)
    program = jax.jit(lambda v, x: inception.features(v, inception.prepare(x), ("2048",))["2048"])
    begin = time.perf_counter()
    compiled = program.lower(variables, x).compile()
    facts = {
        "network": "jaxgen",
        "device": str(jax.devices()[0]),
        "compile_s": time.perf_counter() - begin,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }

    def run() -> None:
        np.asarray(compiled(variables, jax.device_put(x)))

    common.serve(run, facts)


def serve_torch(batch: int) -> None:
    import torch

    device = rivals.device()
    net, name = referee()
    net = net.to(device).eval()
    x = torch.tensor(pictures(batch)).permute(0, 3, 1, 2).contiguous()

    def run() -> None:
        with torch.inference_mode():
            net(x.to(device))[0].cpu()

    common.serve(run, {"network": name, "device": device})


def referee() -> tuple[Any, str]:
    """torch-fidelity's extractor, or ours of PyTorch's layers, and which of them it is."""
    import torch

    from jaxgen import weights
    from jaxgen.encoders import inception

    state = weights.to_torch(inception.init_variables(0), torch_rules())
    state = {key: torch.tensor(np.ascontiguousarray(value)) for key, value in state.items()}
    for key in [key for key in state if key.endswith("running_var")]:
        state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        net = torch_inception()
        # The trunk alone: the features are of the layer before the classifier.
        net.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
        return net, "PyTorch module of the same layers"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(state, path)
        net = FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=str(path)
        )
    return net, "torch-fidelity"


def torch_inception() -> Any:
    """Trunk of the same tables in PyTorch's layers, under the published names."""
    import torch
    from torch import nn

    from jaxgen.encoders.inception_layout import conv_names

    names = conv_names()
    functional = nn.functional

    class Conv(nn.Module):
        def __init__(self, channels: int, step: Step) -> None:
            super().__init__()
            kernel = (step.kernel,) * 2 if isinstance(step.kernel, int) else step.kernel
            pads = (0, 0) if step.padding == "VALID" else (kernel[0] // 2, kernel[1] // 2)
            self.conv = nn.Conv2d(channels, step.channels, kernel, step.stride, pads, bias=False)
            self.bn = nn.BatchNorm2d(step.channels, eps=1e-3)

        def forward(self, x):
            return functional.relu(self.bn(self.conv(x)), inplace=True)

    def pool(x, kind: str):
        if kind == MAX_POOL:
            return functional.max_pool2d(x, 3, 2)
        if kind == AVERAGE:
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return functional.max_pool2d(x, 3, 1, 1)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = 3
            for name, kind in LAYERS.items():
                if isinstance(kind, Step):
                    self.add_module(names[name], Conv(channels, kind))
                    channels = kind.channels
                elif isinstance(kind, Mixed):
                    sizes = {INPUT: channels}
                    block = nn.Module()
                    for conv, (source, step) in kind.convs.items():
                        block.add_module(conv, Conv(sizes.get(source, channels), step))
                        sizes[conv] = step.channels
                    self.add_module(name.capitalize(), block)
                    channels = sum(sizes.get(end, channels) for end in kind.joined)

        def forward(self, x):
            x = tf1_resize(x.float())
            x = (x - 128) / 128
            for name, kind in LAYERS.items():
                if isinstance(kind, Step):
                    x = self.get_submodule(names[name])(x)
                elif isinstance(kind, Mixed):
                    block, outputs = self.get_submodule(name.capitalize()), {INPUT: x}
                    for conv, (source, _) in kind.convs.items():
                        read = outputs[source] if source in outputs else pool(x, source)
                        outputs[conv] = block.get_submodule(conv)(read)
                    ends = [outputs[e] if e in outputs else pool(x, e) for e in kind.joined]
                    x = torch.cat(ends, 1)
                else:
                    x = pool(x, kind)
            return (x.mean((2, 3)),)

    def tf1_resize(x):
        for axis in (3, 2):
            n = x.shape[axis]
            at = torch.arange(299, dtype=torch.float32, device=x.device) * (n / 299)
            low = at.long()
            share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
            first = x.index_select(axis, low)
            after = x.index_select(axis, (low + 1).clamp_max(n - 1))
            x = first + (after - first) * share
        return x

    return Network()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--batch", type=int, help="pictures at a time [default: 8; GPU: 128]")
    args = parser.parse_args()
    if args.worker:
        return (serve_jaxgen if args.worker == "jax" else serve_torch)(args.batch)
    report: dict[str, Any] = {"machine": common.machine()}
    gpu = common.on_gpu()
    if not gpu:
        common.keep_to_threads()
    batch = args.batch or (128 if gpu else 8)
    command = ["-m", "benchmarks.metrics", "--batch", str(batch)]
    forms = [
        rivals.Form("referee", passive=passive) for passive in ([False] if gpu else [False, True])
    ]
    starts = [form.start(command) for form in forms]
    result = common.compare([*command, "--worker", "jax"], starts, 3 if args.quick else 7)
    report |= {"batch": batch, **result}
    rows = [["network", "features/s", "median", "CPU time"]]
    for name, facts in {"": result["jaxgen"], **result["rivals"]["referee"]}.items():
        rate = f"{batch / facts['median_s']:.2f}"
        seconds = [f"{facts[key]:.2f} s" for key in ("median_s", "cpu_s")]
        rows.append([f"{facts['network']} {name}".strip(), rate, *seconds])
    # Of features per second, jaxgen's to the referee's: the inverse of the times' ratio.
    of_all, of_least, of_cpu = (
        f"{1 / result[key]:.2f}" for key in ("ratio", "ratio_of_min", "ratio_of_cpu_time")
    )
    text = (
        common.table(rows) + f"\n\nratio {of_all}, of least times {of_least}, of CPU time {of_cpu}"
    )
    print(text)
    common.finish(report, args.json, text, args.into)


if __name__ == "__main__":
    main()
