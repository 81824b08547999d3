"""Ready files that start a recipe's training on a cluster: Slurm, Kubernetes (Kubeflow Trainer) or SkyPilot.

Each starts the same command on every machine, `torchrun ... -m sectorlm train RECIPE --runs DIR`, and takes what differs from
machine to machine (rank, first host, port) from the environment that its scheduler sets. `train` resumes where it was
stopped, so all of them start again by the same command. No secret is written: tokens belong to the cluster's own store.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from configs.errors import RecipeError, did_you_mean
from configs.records import VERSION
from configs.store import write_atomic
from training.rates import machine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from configs.recipe import Recipe

GRACE = 120
"""Seconds between the request to stop and the end: enough for the step in hand and a checkpoint. torchrun itself gives its
workers 30 of them, so a step should be shorter."""
PORT = 29500
"""torchrun's own default for the first machine's port."""
RESTARTS = 10
STARTED = {"slurm": ["sbatch"], "kubernetes": ["kubectl", "apply", "-f"], "skypilot": ["sky", "launch"]}
"""The command that takes a target's file."""
SECTORLM_FROM = "SECTORLM=git+https://HOST/sectorlm@TAG"
"""Where a machine without an image installs this program from; HOST and TAG are the reader's."""
WORKSPACE = "/workspace"
"""Where the volume with the recipe, its data and its runs is seen in a container."""
DURATION = re.compile(r"(\d+-)?\d{1,3}:\d\d(:\d\d)?|\d+")


@dataclass(frozen=True)
class Asked:
    """What a launch file is for."""

    to: str
    nodes: int = 1
    gpus: int = 1
    """Cards in each machine, one process each."""
    gpu: str = ""
    time: str = "24:00:00"
    image: str = ""
    volume: str = "sectorlm"
    sets: Sequence[str] = ()


def launch(recipe: Recipe, path: Path, runs: Path, asked: Asked) -> dict[str, str]:
    """The files of a target by name, as text; `write` puts them into a folder.

    Raises:
        RecipeError: no such target or card, or a time that is none.
    """
    if asked.to not in TARGETS:
        hint = f"{did_you_mean(asked.to, TARGETS)} One of: {', '.join(TARGETS)}.".strip()
        raise RecipeError(f"no launch files for {asked.to!r}", where="--to", hint=hint)
    if not DURATION.fullmatch(asked.time):
        raise RecipeError(f"{asked.time!r} is no time", where="--time", hint="Give [DAYS-]HOURS:MINUTES:SECONDS.")
    machine_of(asked.gpu)
    return TARGETS[asked.to](recipe.name, training(path, runs, asked.sets), asked)


def training(path: Path, runs: Path, sets: Sequence[str]) -> list[str]:
    """The words of the command that every process runs, after torchrun's own."""
    overrides = [word for it in sets for word in ("--set", it)]
    return ["-m", "sectorlm", "train", str(path), "--runs", str(runs), *overrides]


def write(files: dict[str, str], folder: Path, *, force: bool) -> list[Path]:
    """Write files into a folder; those that are there are kept unless `force`.

    Raises:
        RecipeError: one of them exists.
        StorageError: the folder cannot be written.
    """
    paths = {folder / name: text for name, text in files.items()}
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise RecipeError("the file exists", where=str(there[0]), hint="--force replaces it, --out writes elsewhere.")
    for path, text in paths.items():
        write_atomic(path, text)
    return list(paths)


def next_step(path: Path, runs: Path, asked: Asked, file: str) -> str:
    """What to do after the files are written: the shards are made once and on one machine, then the job is handed in."""
    words = training(path, runs, asked.sets)[3:]  # those of `train` are those of `prepare`
    handed_in = [*STARTED[asked.to], file]
    if asked.to == "skypilot" and not asked.image:
        handed_in += ["--env", SECTORLM_FROM]
    return f"next: {shlex.join(['sectorlm', 'prepare', *words])}, then {shlex.join(handed_in)}"


# ---------------------------------------------------------------- Slurm


SLURM = """\
#!/bin/bash
# Submit with: sbatch {name}.sbatch
# Partition, account and the like are your cluster's: give them to sbatch, or add #SBATCH lines.
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --time={time}
#SBATCH --signal=B:TERM@{grace}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"

# The first machine is where the others meet; the job's number keeps jobs on one machine apart.
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${{hosts%%$'\\n'*}}
port=$((20000 + SLURM_JOB_ID % 20000))

# Slurm signals this shell before the time is up; srun hands it on to torchrun, torchrun to its workers, which write a
# checkpoint and leave.
stopped=
stop() {{
    stopped=yes
    kill -TERM "$step" 2>/dev/null || true
}}
trap stop TERM

srun --kill-on-bad-exit=1 torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node={gpus} \\
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:$port" \\
    {training} &
step=$!
code=0
wait "$step" || code=$?
if [ -n "$stopped" ]; then
    wait "$step" || true # the first wait was cut short by the signal
    # Time is up, or another job needs the machine: the same command resumes. A job that was cancelled is not running.
    if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$code"
"""


def _slurm(name: str, words: list[str], asked: Asked) -> dict[str, str]:
    gpus = f"{asked.gpu.partition('-')[0]}:{asked.gpus}" if asked.gpu else str(asked.gpus)
    text = SLURM.replace("--gpus-per-node={gpus}", f"--gpus-per-node={gpus}")
    filled = text.format(
        name=name, nodes=asked.nodes, gpus=asked.gpus, time=asked.time, grace=GRACE, training=shlex.join(words)
    )
    return {f"{name}.sbatch": filled}


# ---------------------------------------------------------------- Kubernetes


def _kubernetes(name: str, words: list[str], asked: Asked) -> dict[str, str]:
    """A runtime of its own and the job that refers to it (Kubeflow Trainer 2, API trainer.kubeflow.org/v1alpha1).

    The volume stands in the runtime, because the job's field for changes to pods was renamed between Trainer 2.1 and 2.2
    (podTemplateOverrides, runtimePatches). Trainer sets PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and PET_MASTER_PORT,
    which torchrun reads.
    """
    title = _dns_label(name)
    command = ["torchrun", f"--nproc-per-node={asked.gpus}", *words]
    container = {
        "name": "node",
        "image": asked.image or f"sectorlm:{VERSION}",
        "workingDir": WORKSPACE,
        "volumeMounts": [{"name": "workspace", "mountPath": WORKSPACE}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    volumes = [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": asked.volume}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},  # NCCL and data move through it
    ]
    pod = {
        "terminationGracePeriodSeconds": GRACE,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": volumes,
    }
    job = {
        "name": "node",
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        },
    }
    head = {"apiVersion": "trainer.kubeflow.org/v1alpha1"}
    runtime = {
        **head,
        "kind": "TrainingRuntime",
        "metadata": {"name": title, "labels": {"trainer.kubeflow.org/framework": "torch"}},
        "spec": {
            "mlPolicy": {"numNodes": asked.nodes, "torch": {}},
            "template": {"spec": {"failurePolicy": {"maxRestarts": RESTARTS}, "replicatedJobs": [job]}},
        },
    }
    trainer = {
        "numNodes": asked.nodes,
        "image": container["image"],
        "command": command,
        "resourcesPerNode": {"limits": {_device(asked.gpu): asked.gpus}},
    }
    train_job = {
        **head,
        "kind": "TrainJob",
        "metadata": {"name": title},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": title},
            "trainer": trainer,
        },
    }
    told = (
        f"# Submit with: kubectl apply -f {name}.trainjob.yaml\n"
        f"# The claim {asked.volume!r} holds the recipe and its data, and receives the runs; for several nodes it must be "
        "ReadWriteMany.\n"
    )
    return {f"{name}.trainjob.yaml": told + _documents(runtime, train_job)}


def _device(gpu: str) -> str:
    """What Kubernetes counts cards by: the name that the vendor's device plugin registers."""
    return "amd.com/gpu" if gpu.lower().startswith("mi") else "nvidia.com/gpu"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, which people can read and shells get unchanged."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _documents(*trees: dict[str, Any]) -> str:
    """Trees as YAML documents of one file."""
    return str(yaml.dump_all(trees, Dumper=_Dumper, sort_keys=False, width=1000))


def _dns_label(name: str) -> str:
    """A name as Kubernetes wants it (RFC 1035): small letters, digits and hyphens, a letter first, at most 50 of them.

    >>> _dns_label("3_Finance.v2")
    's-3-finance-v2'
    """
    label = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    return (label if label[:1].isalpha() else f"s-{label}")[:50].strip("-")


# ---------------------------------------------------------------- SkyPilot


def _skypilot(name: str, words: list[str], asked: Asked) -> dict[str, str]:
    gpu = machine_of(asked.gpu or "h100").gpu
    resources: dict[str, Any] = {"accelerators": f"{gpu.sky if gpu else 'H100'}:{asked.gpus}"}
    task: dict[str, Any] = {
        "name": _dns_label(name),
        "workdir": ".",
        "num_nodes": asked.nodes,
        "resources": resources,
    }
    if asked.image:
        resources["image_id"] = f"docker:{asked.image}"
    else:
        task["envs"] = {"SECTORLM": None}
        task["setup"] = 'pip install "$SECTORLM"\n'
    task["run"] = (
        'first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n'
        'torchrun --nnodes="$SKYPILOT_NUM_NODES" --nproc-per-node="$SKYPILOT_NUM_GPUS_PER_NODE" '
        f'--node-rank="$SKYPILOT_NODE_RANK" --master-addr="$first" --master-port={PORT} {shlex.join(words)}\n'
    )
    install = "" if asked.image else f" --env {SECTORLM_FROM}"
    told = (
        f"# Start with: sky launch {name}.sky.yaml{install}, from the folder of the recipe.\n"
        "# `sky exec` on the same cluster resumes. On spot machines put --runs on a volume that outlives them.\n"
    )
    return {f"{name}.sky.yaml": told + _documents(task)}


TARGETS: dict[str, Callable[[str, list[str], Asked], dict[str, str]]] = {
    "slurm": _slurm,
    "kubernetes": _kubernetes,
    "skypilot": _skypilot,
}
"""What --to may name, and what writes its files."""
