"""A Slurm of one machine: sbatch, srun, sacct and scancel as programs on PATH, which run each job at once."""

import os
import sys
from pathlib import Path

import pytest
import submitit

_SBATCH = """
import os, re, subprocess, sys
from pathlib import Path
NULL = subprocess.DEVNULL  # sbatch does not wait for its jobs
root, script = Path(os.environ["FAKE_SLURM"]), Path(sys.argv[1])
text = script.read_text()
if "--partition=none" in text:
    sys.exit("sbatch: error: invalid partition specified: none")
number = 1 + len(list(root.glob("*.sbatch")))
(root / f"{number}.sbatch").write_text(text)
array = re.search(r"--array=0-(\\d+)", text)
for index in range(int(array[1]) + 1) if array else [None]:
    name = str(number) if index is None else f"{number}_{index}"
    own = {"SLURM_JOB_ID": str(number)}
    if index is not None:
        own |= {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(index)}
    words = ["bash", "-c", f"bash {script}; echo $? > {root}/{name}.code"]
    job = subprocess.Popen(words, env=os.environ | own, start_new_session=True, stdout=NULL, stderr=NULL)
    (root / f"{name}.pid").write_text(str(job.pid))
print(f"Submitted batch job {number}")
"""
_SRUN = """
import os, sys
words, name = sys.argv[1:], os.environ["SLURM_JOB_ID"]
if "SLURM_ARRAY_TASK_ID" in os.environ:
    name = f"{name}_{os.environ['SLURM_ARRAY_TASK_ID']}"
while words[0].startswith("--"):
    flag = words.pop(0)
    if flag in ("--output", "--error"):
        file = words.pop(0).replace("%A_%a", name).replace("%j", name).replace("%t", "0")
        os.dup2(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY), 1 if flag == "--output" else 2)
os.execvp(words[0], words)
"""
_SACCT = """
import os
from pathlib import Path
root = Path(os.environ["FAKE_SLURM"])
print("JobID|State|NodeList")
for file in root.glob("*.pid"):
    state, code = file.with_suffix(".state"), file.with_suffix(".code")
    ended = code.is_file() and ("COMPLETED" if code.read_text().strip() == "0" else "FAILED")
    print(f"{file.stem}|{state.read_text() if state.is_file() else ended or 'RUNNING'}|here")
"""
_SCANCEL = """
import os, signal, sys
from pathlib import Path
file = Path(os.environ["FAKE_SLURM"]) / f"{sys.argv[1]}.pid"
file.with_suffix(".state").write_text("CANCELLED by 0")
os.killpg(int(file.read_text()), signal.SIGTERM)
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the programs on PATH; return the folder in which each job has its script as NUMBER.sbatch."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name, text in {"sbatch": _SBATCH, "srun": _SRUN, "sacct": _SACCT, "scancel": _SCANCEL}.items():
        (programs / name).write_text(f"#!{sys.executable} -I\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    submitit.SlurmJob.watcher.clear()  # it remembers jobs of other tests by their numbers
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 0.5)
    monkeypatch.setattr("fsseg.experiments.executors.submitted._LOOK_SECONDS", 0.1)
    monkeypatch.setattr("fsseg.experiments.executors.submitted._ASK_SECONDS", 0.3)
    return folder
