"""The benchmarks' own arithmetic: which rivals take part, what agrees, how curves grow."""

import ast
import importlib
import importlib.util

import numpy as np
import pytest
from helpers import REPOSITORY
from support.referees import pytorch
from support.tiny_ldm import tiny_ldm


@pytest.fixture(autouse=True)
def benchmarks_found(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))


def test_a_rival_that_is_not_there_is_a_dash(monkeypatch, capsys):
    from benchmarks import common, rivals

    gone = {"openvino", "onnxruntime"}
    monkeypatch.setattr(
        rivals.importlib.util, "find_spec", lambda name: None if name in gone else 1
    )
    monkeypatch.setattr(rivals.shutil, "which", lambda name: None)
    assert rivals.available() == (rivals.EAGER,)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "without torch.compile: no C++ compiler (g++)",
        "without ONNX Runtime: onnxruntime not installed",
        "without OpenVINO: openvino not installed",
    ]
    report = {
        "jaxgen": {"median_s": 0.5},
        "rivals": {rivals.EAGER: {"a": {"median_s": 2.0}, "b": {"median_s": 1.0}}},
        "ratio": 0.5, "ratio_of_min": 0.5, "ratio_of_cpu_time": 0.5,
    }  # fmt: skip
    cells = common.cells(report, rivals.NAMES)
    assert cells[:5] == ["500 ms", "1000 ms", "-", "-", "-"]
    assert len(cells) == len(common.head(rivals.NAMES))


def test_options_are_for_the_methods_that_have_them(monkeypatch):
    from benchmarks import edits
    from jaxgen.evaluation import editing

    given = {}

    def evaluate(use, edits, method, options):
        given.setdefault(method, []).append(options)
        return {}, []

    monkeypatch.setattr(editing, "evaluate", evaluate)
    options = ["steps=2", "features=0.5", "weight=red:2"]
    list(edits.rows_of(tiny_ldm().edit, ["p2p", "pnp"], options, 1))
    assert given["pnp"][0] == {"steps": 2, "features": 0.5}
    assert given["p2p"][:2] == [{"steps": 2, **edits.AGAIN}, {"steps": 2, "weight": "red:2"}]


def test_without_any_rival_the_extra_is_named(monkeypatch):
    from benchmarks import rivals

    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"\.\[bench\]"):
        rivals.available()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train": False, "dtype": "float32", "gpu": False}, 7),
        ({"train": True, "dtype": "float32", "gpu": False}, 5),
        ({"train": False, "dtype": "bfloat16", "gpu": False}, 5),
        ({"train": True, "dtype": "bfloat16", "gpu": True}, 2),
    ],
)
def test_forms_are_those_that_can_do_the_case(settings, expected):
    from benchmarks import rivals

    forms = rivals.forms(rivals.NAMES, **settings)
    assert len(set(forms)) == len(forms) == expected
    assert rivals.Form.of(forms[0].start([]).command[-1]) == forms[0]


def test_other_outputs_are_an_error():
    from benchmarks.networks import agree

    ours = np.linspace(-1, 1, 9, dtype=np.float32)
    agree(ours + 5e-5, ours, "float32")
    with pytest.raises(AssertionError, match="the outputs differ by 1"):
        agree(ours + 1.5e-4, ours, "float32")


@pytest.mark.parametrize("network", ["SRResNet", "RRDBNet", "SRVGGNetCompact", "SwiftGenerator"])
def test_every_tensor_of_a_rival_comes_from_the_key_map(network):
    torch = pytorch()
    import importlib

    import jax

    from benchmarks import networks, torch_nets

    net = getattr(importlib.import_module(networks.NETWORKS[network][0]), network)()
    picture = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")
    shapes = jax.eval_shape(net.init, jax.random.key(0), picture)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    state = networks._to_torch(net, network, zeros)
    with torch.device("meta"):
        own = getattr(torch_nets, network)().state_dict()
    wanted = {k: tuple(v.shape) for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in state.items()} == wanted


def test_exponents_are_of_the_three_largest_points(tmp_path):
    from benchmarks import growth

    points = [
        {"point": n, "wall_s": w, "cpu_s": w, "loaded_bytes": 2**20, "peak_bytes": 2**20 + n**3}
        for n, w in ((2, 9.0), (4, 16.0), (8, 64.0), (16, 256.0))
    ]
    batch, size = growth.grown("batch", points), growth.grown("size", points)
    assert batch["exponent_of_time"] == pytest.approx(2)
    assert size["exponent_of_time"] == pytest.approx(1)  # against the area
    assert batch["exponent_of_memory"] == pytest.approx(3)
    curves = {"batch": batch, "size": size}
    assert growth.verdict(curves) == (
        "Super-linear: time of batch (2.00), memory of batch (3.00), memory of size (1.50)."
    )
    assert len(growth.rows(curves)) == 9
    growth.draw(curves, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size < 50_000


def test_a_table_goes_into_its_place(tmp_path):
    from benchmarks import common

    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- table of x -->\nold\n<!-- end -->\nb\n<!-- table of y -->\n<!-- end -->\n"
    )
    common.put(page, "x", "new")
    assert page.read_text() == (
        "a\n<!-- table of x -->\n\nnew\n\n<!-- end -->\nb\n<!-- table of y -->\n<!-- end -->\n"
    )
    with pytest.raises(SystemExit, match="no line <!-- table of z -->"):
        common.put(page, "z", "new")


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (
            "performance.md",
            (
                *("srgan", "sr", "t2i", "metrics", "data", "growth"),
                *("retrieval", "vq_clip", "ldm", "edit"),
            ),
        ),
        ("results.md", ("shapes",)),
    ],
)
def test_every_benchmark_has_its_place_in_the_docs(page, names):
    text = (REPOSITORY / "docs" / page).read_text()
    for name in names:
        assert text.count(f"<!-- table of {name} -->\n") == 1, name
    assert text.count("<!-- end -->") == text.count("<!-- table of ") == len(names)


@pytest.fixture
def served(monkeypatch):
    """What workers say of themselves: each runs twice and checks, in this process."""
    from benchmarks import common

    found = []

    def serve(run, facts, check):
        check([run(), run()])
        found.append(facts)

    monkeypatch.setattr(common, "serve", serve)
    return found


def diffusers_size():
    pytorch()
    pytest.importorskip("diffusers", reason="the rival of benchmarks.ldm and benchmarks.edit")
    import dataclasses

    from benchmarks import unets

    return dataclasses.asdict(unets.Size(8, (32,), 4, 16, 5, blocks=1))


@pytest.mark.parametrize("job", ["sample", "train"])
def test_diffusers_says_the_same_of_our_weights(job, tmp_path, served, monkeypatch):
    size = diffusers_size()
    from benchmarks import ldm, rivals

    monkeypatch.setattr(ldm, "STEPS", 2)
    case = ldm.Case(job, 1, size)
    ldm.serve_jax(case, tmp_path)
    ldm.serve_torch(case, rivals.Form(rivals.EAGER), tmp_path)
    assert served[0]["parameters"] == served[1]["parameters"]
    assert served[0]["temporary_bytes"] > 0


_LONGER = [
    pytest.param(job, marks=pytest.mark.slow)
    for job in ("null-text", "null-text-frozen", "words", "weights")
]


@pytest.mark.parametrize("job", ["p2p", *_LONGER])
def test_the_originals_way_of_editing_gives_the_same(job, tmp_path, served):
    size = diffusers_size()
    from benchmarks import edit, edit_jobs, rivals

    case = edit_jobs.Case(job, 5 if job == "p2p" else 2, size)
    edit_jobs.serve_jax(case, tmp_path)
    edit.serve_torch(case, rivals.Form(rivals.EAGER), tmp_path)
    assert len(served) == 2


def test_what_the_benchmarks_take_of_jaxgen_is_there():
    """Their workers import within functions, which nothing calls until somebody measures."""
    missing = []
    for file in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            room = getattr(node, "module", None) or ""
            if not isinstance(node, ast.ImportFrom) or not room.startswith(
                ("jaxgen", "benchmarks")
            ):
                continue
            there = importlib.import_module(room)
            for name in node.names:
                inner = f"{room}.{name.name}"
                found = hasattr(there, name.name) or (
                    hasattr(there, "__path__") and importlib.util.find_spec(inner)
                )
                if not found:
                    missing.append(f"{file.name}:{node.lineno} {inner}")
    assert not missing


def test_a_stopped_composition_is_no_result(tmp_path, monkeypatch):
    from benchmarks import compositions
    from jaxgen.train import loop

    how = {"stopped": "preempted"}
    monkeypatch.setattr(loop, "train", lambda *given: loop.Result(7, {"recall_at_1": 1.0}, **how))
    asked = (f"{REPOSITORY}/configs/tirg.py", "relationship", 0, 10, tmp_path)
    with pytest.raises(SystemExit, match="relationship, seed 0: preempted"):
        compositions.trained(*asked)
    how["stopped"] = "done"
    assert compositions.trained(*asked) == {"recall_at_1": 1.0}
