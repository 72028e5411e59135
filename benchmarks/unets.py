"""One UNet of latent diffusion in both frameworks, with the same random weights.

jaxgen's weights go to diffusers' `UNet2DConditionModel` by our own key map, so that what is timed
is what a converted model does.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.growth import forget_peak, resident
from benchmarks.rivals import COMPILED, LAYOUTS, Form

WEIGHTS = "unet.npz"
_CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
SPREAD = 0.02  # of the random numbers that are added to fresh weights, whose last layers are zero


@dataclasses.dataclass(frozen=True)
class Size:
    """A UNet in the form of Stable Diffusion 1, and what it is given.

    side: of the latents, of 4 channels. channels: of the levels; all but the last have attention.
    tokens, context: of a text, and the width of its features. blocks: of a level.
    """

    side: int = 32
    channels: tuple[int, ...] = (128, 256, 512)
    heads: int = 8
    context: int = 512
    tokens: int = 77
    blocks: int = 2

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Size:
        """From a worker's command line."""
        return cls(**{**fields, "channels": tuple(fields["channels"])})

    @property
    def says(self) -> str:
        return f"{'-'.join(map(str, self.channels))} at {self.side} x {self.side}"


MIDDLE, TINY = Size(), Size(16, (32, 64), 4, 64)


def need_diffusers() -> None:
    """Ends the program where it is not installed."""
    if importlib.util.find_spec("diffusers") is None:
        sys.exit("nothing to compare with: pip install -c constraints.txt -e '.[bench]'")


def forms(names: tuple[str, ...], layouts: tuple[str, ...] = LAYOUTS) -> list[Form]:
    """PyTorch in each layout with spinning and sleeping threads, and compiled."""
    eager = [Form(names[0], layout, passive) for layout in layouts for passive in (False, True)]
    return eager + [Form(COMPILED)] * (COMPILED in names)


# ---- jaxgen --------------------------------------------------------------------------------------


def make_jax(size: Size, **settings: Any) -> tuple[Any, Any]:
    """(jaxgen's module, its variables, no zeros among them)."""
    import jax

    from jaxgen.models.ldm.unet import UNet

    net = UNet(
        channels=size.channels, blocks=size.blocks, attention=tuple(range(len(size.channels) - 1)),
        heads=size.heads, context=size.context, **settings,
    )  # fmt: skip
    shapes = [(1, size.side, size.side, 4), (1,), (1, size.tokens, size.context)]
    structs = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    made = jax.eval_shape(net.init, jax.random.key(0), *structs)
    rng = np.random.default_rng(0)

    def filled(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        spread = SPREAD * rng.standard_normal(leaf.shape, np.float32)
        return spread + np.float32(1) if name == "scale" else spread

    return net, jax.tree_util.tree_map_with_path(filled, made)


def leave_weights(net: Any, variables: Any, folder: Path) -> None:
    """Writes diffusers' tensors, for `make_torch`."""
    from jaxgen import weights
    from jaxgen.models.ldm.keymap import unet_rules

    np.savez(folder / WEIGHTS, **weights.to_torch(variables, unet_rules(net.linear)))


def compiled(f: Callable, *arrays: Any, **settings: Any) -> tuple[Any, dict[str, float]]:
    """(program, seconds of its compilation with an empty and with a warm cache, bytes).

    Tracing is part of both.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    def once() -> tuple[Any, float]:
        begin = time.perf_counter()
        program = jax.jit(f, **settings).lower(*arrays).compile()
        return program, time.perf_counter() - begin

    before = {name: getattr(jax.config, name) for name in _CACHE}
    with tempfile.TemporaryDirectory() as folder:
        _use_cache(dict(zip(_CACHE, (folder, 0.0), strict=True)))
        program, cold = once()
        jax.clear_caches()
        compilation_cache.reset_cache()
        program, warm = once()
    _use_cache(before)
    temporary = program.memory_analysis().temp_size_in_bytes
    return program, {"compile_s": cold, "warm_compile_s": warm, "temporary_bytes": temporary}


def _use_cache(settings: dict[str, Any]) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


# ---- diffusers -----------------------------------------------------------------------------------


def make_torch(size: Size, form: Form, folder: Path) -> Any:
    """diffusers' module with the weights that jaxgen's worker left."""
    import diffusers
    import torch

    from benchmarks import rivals, torch_nets

    attends = len(size.channels) - 1
    net = diffusers.UNet2DConditionModel(
        sample_size=size.side, block_out_channels=size.channels, layers_per_block=size.blocks,
        cross_attention_dim=size.context, attention_head_dim=size.heads,
        down_block_types=("CrossAttnDownBlock2D",) * attends + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attends,
    )  # fmt: skip
    torch_nets.load(net, folder / WEIGHTS)
    return net.to(rivals.device(), memory_format=getattr(torch, form.layout))


def to_torch(x: np.ndarray, form: Form) -> Any:
    """A latent (b, h, w, c) as PyTorch has it."""
    import torch

    from benchmarks import rivals

    found = torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), device=rivals.device())
    return found.contiguous(memory_format=getattr(torch, form.layout))


def from_torch(x: Any) -> np.ndarray:
    """(b, h, w, c) of PyTorch's (b, c, h, w)."""
    return x.detach().float().cpu().numpy().transpose(0, 2, 3, 1)


# ---- memory --------------------------------------------------------------------------------------


def peak(facts: dict[str, Any]) -> Callable[[list[Any]], None]:
    """A check for `common.serve` that notes what two runs took beside what was there before."""
    forget_peak()
    before = resident("VmRSS")

    def note(results: list[Any]) -> None:
        del results
        facts["peak_bytes"] = resident("VmHWM")
        facts["added_bytes"] = facts["peak_bytes"] - before

    return note


def serves(args: Any, case_of: Callable, jaxgen: Callable, torch: Callable) -> bool:
    """Whether this process was started as a worker; then it has done its work.

    Args:
      args: of the command line. case_of: makes a case of its fields.
      jaxgen, torch: the workers: (case, folder), and (case, form, folder).
    """
    if not args.worker:
        return False
    case = case_of(**json.loads(args.case))
    if args.worker == "jax":
        jaxgen(case, args.folder)
    else:
        torch(case, Form.of(args.worker), args.folder)
    return True


def compared(cases: Iterable[Any], compare: Callable) -> tuple[list[Any], list[str]]:
    """(reports, the table if there are any) of what `compare` says of each: (report, row by head).

    Each row is shown as it comes.
    """
    reports, rows, head = [], [], []
    for case in cases:
        report, row = compare(case)
        reports.append(report)
        head = list(row)
        rows.append(list(row.values()))
        print(common.table([head, rows[-1]]), flush=True)
    return reports, [common.table([head, *rows])] if rows else []
