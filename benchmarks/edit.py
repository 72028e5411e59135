"""Editing by words against the PyTorch originals' way of the same work, on current diffusers.

    python -m benchmarks.edit [--quick] [--memory] [--json benchmarks/results/edit.json]

On a tiny UNet and on that of `benchmarks.ldm`, with the same random weights, texts and noise, whose
results must agree before they are timed:

  p2p        Prompt-to-Prompt, 20 steps, source and target; attention processors, a controller
  null-text  an empty prompt learnt at each step, ten updates of Adam each; a loop with autograd,
             which computes the weights' gradients along, since the original does not freeze them
  null-text-frozen  the same against such a loop with frozen weights
  words      Imagic's first stage, the embedding is learnt
  weights    its second, all weights are

Then what direct inversion costs as a multiple of drawing one guided picture with as many steps.
`--memory`, alone: the temporary memory of null-text of Stable Diffusion 1.5 at 512 x 512, as the
compiled program states it; nothing runs. How it is timed: `benchmarks.srgan`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, rivals, unets
from benchmarks.edit_jobs import CROSS, GUIDANCE, OWN, RATES, Case, serve_jax
from benchmarks.ldm import scheduler_of_sd
from benchmarks.networks import agree
from benchmarks.unets import MIDDLE, TINY, Size

WANTED = {
    "p2p": 0.9, "null-text": 0.7, "null-text-frozen": None, "words": 1.0, "weights": 1.0,
}  # fmt: skip
NULL_TEXT = ("null-text", "null-text-frozen")
INNER = 10  # updates of a step of null-text
MEBI = 2**20
# Words whose gradient vanishes move by Adam's whole rate either way: their change is compared as
# a whole.
CHANGE = 0.05


# ---- PyTorch -------------------------------------------------------------------------------------


def serve_torch(case: Case, form: rivals.Form, folder: Path) -> None:
    """The worker of the originals' way with the same weights; its results must be jaxgen's."""
    import torch

    from benchmarks import torch_edit

    size, arrays = Size.of(case.size), case.inputs()
    net = unets.make_torch(size, form, folder).eval().requires_grad_(False)
    scheduler, device = scheduler_of_sd(), rivals.device()
    with np.load(folder / "said.npz") as file:
        said = dict(file)
    table = torch.tensor(arrays["table"], device=device).reshape(3, size.tokens, size.context)
    x0 = unets.to_torch(arrays["picture"] / np.float32(127.5) - 1, form)
    if case.job == "p2p":
        edit = {k: torch.tensor(arrays[k], device=device) for k in ("mapper", "weight")}
        edit |= {"cross": int(CROSS * case.steps), "own": int(OWN * case.steps)}
        context, noise = table[[2, 2, 0, 1]], unets.to_torch(said["noise"], form)
        run = torch_edit.prompt_to_prompt(
            net, scheduler, noise, context, edit, case.steps, GUIDANCE
        )  # fmt: skip
    elif case.job in NULL_TEXT:
        net.requires_grad_(case.job == "null-text")
        run = torch_edit.null_text(
            net, scheduler, x0, table[:1], table[2:], case.steps, GUIDANCE, INNER
        )  # fmt: skip
    else:
        noises = [unets.to_torch(n, form) for n in arrays["noises"]]
        times = torch.tensor(arrays["times"], device=device)
        run = torch_edit.imagic(
            net, scheduler, x0, table[:1], times, noises, RATES[case.job],
            weights=case.job == "weights",
        )  # fmt: skip
    facts: dict[str, Any] = {}
    note = unets.peak(facts)

    def check(results: list[Any]) -> None:
        note(results)
        found = results[-1]
        if case.job == "p2p":
            ours = np.concatenate([said["source"][:, None], said["edits"]], axis=1)[0]
            return agree(unets.from_torch(found), ours, "float32")
        if case.job not in NULL_TEXT:
            return agree(found.cpu().numpy(), said["losses"], "float32")
        agree(unets.from_torch(found[0]), said["noise"], "float32")
        begun = table[2:].cpu().numpy()
        change, other = found[1].cpu().numpy() - begun, said["words"] - begun
        far = np.linalg.norm(change - other) / np.linalg.norm(other)
        assert far <= CHANGE, f"the words' change differs by {far:.1e}"

    def timed() -> Any:
        found = run()
        rivals.synchronize()
        return found

    common.serve(timed, facts, check)


# ---- the comparison ------------------------------------------------------------------------------


def cases(quick: bool) -> list[Case]:
    """What is compared: steps as many as a run of a few seconds has."""
    some = 2 if quick else 4
    few = {"p2p": 20, **dict.fromkeys(NULL_TEXT, some), "words": 4, "weights": 4}
    many = {**few, **dict.fromkeys(NULL_TEXT, 10)}
    sizes = ((TINY, many), (MIDDLE, few))
    return [
        Case(job, steps, dataclasses.asdict(size))
        for size, of in sizes
        for job, steps in of.items()
    ]


def memory(net: Any, size: Size, steps: int = 50) -> float:
    """Temporary bytes of null-text for one picture, from shapes alone."""
    import jax

    from jaxgen.diffusion.schedules import Schedule
    from jaxgen.edit.null_text import null_text
    from jaxgen.edit.path import ascend, make_path

    def run(variables, path, x, asked, empty):
        def under(context):
            return lambda x, t: net.apply(variables, x, t, context)

        states = ascend(under(asked), path, x)
        free = lambda x, t, words: net.apply(variables, x, t, words)  # noqa: E731
        return null_text(under(asked), free, path, states, empty, GUIDANCE).embeddings

    latent, text = (1, size.side, size.side, 4), (1, size.tokens, size.context)
    x, t, words = (jax.ShapeDtypeStruct(s, "float32") for s in (latent, (1,), text))
    variables = jax.eval_shape(net.init, jax.random.key(0), x, t, words)
    path = make_path(Schedule(), "eps", steps)
    compiled = jax.jit(run).lower(variables, path, x, words, words).compile()
    return float(compiled.memory_analysis().temp_size_in_bytes)


def memory_table() -> tuple[list[Any], str]:
    """(numbers, table) of Stable Diffusion 1.5 at 512 x 512, with and without remat."""
    from jaxgen.models.ldm.unet import UNet

    size, found, rows = Size(64, (), 8, 768), [], [["null-text, SD 1.5 at 512 x 512", "temporary"]]
    for remat, says in ((True, "blocks computed again"), (False, "everything kept")):
        taken = memory(UNet(remat=remat), size)
        found.append({"remat": remat, "temporary_bytes": taken})
        rows.append([says, f"{taken / MEBI:.0f} MiB"])
        print(common.table([rows[0], rows[-1]]), flush=True)
    return found, common.table(rows)


def compare(case: Case, rounds: int) -> tuple[Any, dict[str, str]]:
    """(report, row of the table)."""
    names, wanted = (rivals.EAGER,), WANTED[case.job]
    result = rivals.compare("benchmarks.edit", case, unets.forms(names), rounds)
    ours, theirs = result["jaxgen"], result["rivals"][rivals.EAGER][result["best"][1]]
    verdict = "-"
    if wanted is not None:
        verdict = f"{wanted}: {'met' if result['ratio'] <= wanted else '**missed**'}"
    return result, {
        "job": f"{case.job}, {case.steps} steps",
        "UNet": Size.of(case.size).says,
        **dict(zip(common.head(names), common.cells(result, names), strict=True)),
        "asked for": verdict,
        "compiled in": f"{ours['compile_s']:.0f} s",
        "memory": f"{ours['added_bytes'] / MEBI:.0f} MiB",
        "PyTorch's": f"{theirs['added_bytes'] / MEBI:.0f} MiB",
    }


def multiples(rounds: int) -> tuple[Any, str]:
    """(reports, what direct inversion costs in guided pictures of as many steps)."""
    with tempfile.TemporaryDirectory() as folder:
        workers = {}
        for job in ("plain", "direct"):
            fields = json.dumps(dataclasses.asdict(Case(job, 20, dataclasses.asdict(MIDDLE))))
            command = ["-m", "benchmarks.edit", "--case", fields, "--folder", folder]
            workers[job] = common.Worker([*command, "--worker", "jax"])
        found = common.in_turn(workers, rounds)
    share = found["direct"]["median_s"] / found["plain"]["median_s"]
    return found, f"Direct inversion takes {share:.2f} of a guided picture of as many steps."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    common.add_arguments(parser)
    parser.add_argument("--memory", action="store_true", help="null-text of SD 1.5, compiled only")
    parser.add_argument("--only", nargs="+", choices=[*WANTED, "direct"], help="these alone")
    args = parser.parse_args()
    if unets.serves(args, Case, serve_jax, serve_torch):
        return None
    report: dict[str, Any] = {"machine": common.machine()}
    if args.memory:
        report["memory"], text = memory_table()
        return common.finish(report, args.json, text, None)
    unets.need_diffusers()
    common.keep_to_threads()
    rounds = 3 if args.quick else 5
    chosen = [case for case in cases(args.quick) if not args.only or case.job in args.only]
    report["cases"], texts = unets.compared(chosen, lambda case: compare(case, rounds))
    if not args.only or "direct" in args.only:
        report["direct"], text = multiples(rounds)
        texts.append(text)
    text = "\n\n".join(texts)
    print("\n" + text, flush=True)
    return common.finish(report, args.json, text, args.into)


if __name__ == "__main__":
    main()
