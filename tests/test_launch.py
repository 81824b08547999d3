"""The files of `launch`: shells and YAML read them, and the command in them is one of ours."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.recipes import recipe, sectorlm, source

ON = ["--nodes", "2", "--gpus", "8", "--gpu", "h100", "--time", "2-00:00:00"]


@pytest.fixture(autouse=True)
def _here(tmp_path, tiny_base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe(tiny_base, source("notes.jsonl"))


def launched(target, *more):
    told = sectorlm("launch", "r.yaml", "--to", target, *ON, "--set", "train.rank=8", *more)
    assert told.code == 0, told.err
    return Path(told.out.split()[1]).read_text("utf-8")


def accepted(words):
    """Whether our own command line takes what follows `-m sectorlm`."""
    own = words[words.index("sectorlm") + 1 :]
    assert words[words.index("sectorlm") - 1] == "-m"
    assert own[:4] == ["train", "r.yaml", "--runs", "runs"] and own[4:6] == ["--set", "train.rank=8"]
    told = sectorlm(*own[:6], "--help")
    return told.code == 0 and "Tune the base model" in told.out


def test_the_slurm_script_is_a_shell_script_with_signal_requeue_and_rendezvous(tmp_path):
    text = launched("slurm")
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    head = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --gpus-per-node=h100:8",
        "#SBATCH --time=2-00:00:00",
        "#SBATCH --signal=B:TERM@120",
        "#SBATCH --requeue",
        "#SBATCH --ntasks-per-node=1",
    ):
        assert line in head
    assert '--rdzv-endpoint="$first:$port"' in text and "--nproc-per-node=8" in text
    step = text[text.index("srun ") : text.index(" &\n")].replace("\\\n", " ")
    assert accepted(shlex.split(step))


CLUSTER = """
scontrol() { if [ "$1" = show ]; then printf 'n1\\nn2\\n'; else echo "scontrol $*" >> calls; fi; }
squeue() { echo RUNNING; }
srun() { exec python3 stub.py "$@"; }
"""
STUB = """
import pathlib, signal, sys, time
pathlib.Path("srun").write_text(" ".join(sys.argv[1:]))
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("calls").open("a").write("checkpoint\\n"), sys.exit(143)))
pathlib.Path("ready").touch()
time.sleep(30)
"""


def test_the_slurm_script_hands_the_signal_on_and_queues_itself_again(tmp_path):
    """With a Slurm of three shell functions: the step writes its checkpoint first, then the job is queued again."""
    text = launched("slurm").replace("set -euo pipefail", "set -euo pipefail\n" + CLUSTER.replace("\\\\", "\\"))
    Path("stub.py").write_text(STUB.replace("\\\\", "\\"), "utf-8")
    script = "export SLURM_SUBMIT_DIR=. SLURM_JOB_NODELIST=n SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=2\n" + text
    Path("job.sh").write_text(script, "utf-8")
    with subprocess.Popen(["bash", "job.sh"]) as job:
        for _ in range(200):
            if Path("ready").exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(0.1)
        job.terminate()
        assert job.wait(20) == 143
    assert Path("calls").read_text().splitlines() == ["checkpoint", "scontrol requeue 77"]
    assert "--rdzv-endpoint=n1:20077" in Path("srun").read_text()


def test_the_kubernetes_manifest_is_a_runtime_and_a_train_job_that_refers_to_it():
    runtime, job = yaml.safe_load_all(launched("kubernetes", "--volume", "claim-1", "--image", "sectorlm:9"))
    assert {runtime["apiVersion"], job["apiVersion"]} == {"trainer.kubeflow.org/v1alpha1"}
    assert (runtime["kind"], job["kind"]) == ("TrainingRuntime", "TrainJob")
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"] == "small"
    trainer = job["spec"]["trainer"]
    assert trainer["numNodes"] == 2 and trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": 8}
    assert trainer["command"][:2] == ["torchrun", "--nproc-per-node=8"] and accepted(trainer["command"])
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim-1"}
    assert pod["containers"][0]["name"] == "node" and trainer["image"] == "sectorlm:9"


def test_the_skypilot_task_asks_for_the_cards_and_starts_every_node():
    task = yaml.safe_load(launched("skypilot"))
    assert task["num_nodes"] == 2 and task["resources"] == {"accelerators": "H100:8"}
    assert task["envs"] == {"SECTORLM": None}  # given on the command line; no secret is written
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True, check=False).returncode == 0
    last = task["run"].strip().splitlines()[-1]
    assert "$SKYPILOT_NODE_RANK" in last and accepted(shlex.split(last))


@pytest.mark.parametrize("target", ["slurm", "kubernetes", "skypilot"])
def test_a_file_that_is_there_is_kept_unless_forced(target):
    launched(target)
    told = sectorlm("launch", "r.yaml", "--to", target, *ON)
    assert told.code == 2 and "--force" in told.err  # as `init` refuses
    assert sectorlm("launch", "r.yaml", "--to", target, *ON, "--force").code == 0
    assert sectorlm("launch", "r.yaml", "--to", target, *ON, "--out", "elsewhere").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "slrum"], "Did you mean slurm?"),
        (["--to", "slurm", "--time", "soon"], "'soon' is no time"),
        (["--to", "slurm", "--gpu", "h10"], "no figures for the GPU 'h10'"),
    ],
)
def test_a_wrong_word_is_refused_with_what_is_allowed(words, said):
    told = sectorlm("launch", "r.yaml", *words)
    assert told.code == 2 and said in told.err


@pytest.mark.parametrize(
    ("target", "step"),
    [
        ("slurm", "sbatch elsewhere/{}"),
        ("kubernetes", "kubectl apply -f elsewhere/{}"),
        ("skypilot", "sky launch elsewhere/{} --env SECTORLM=git+https://HOST/sectorlm@TAG"),
    ],
)
def test_the_next_step_is_told_with_the_words_of_the_recipe(target, step):
    told = sectorlm("launch", "r.yaml", "--to", target, *ON, "--set", "train.rank=8", "--out", "elsewhere")
    [file] = Path("elsewhere").iterdir()
    last = " ".join(told.out.split("next: ")[1].split())
    prepare, start = last.split(", then ")
    assert start == step.format(file.name)
    assert prepare == "sectorlm prepare r.yaml --runs runs --set train.rank=8"
