"""nnU-Net's commands in the environment of their user."""

import os
import shlex
from pathlib import Path

from conftest import Lab, fsseg


def environment(lab: Lab, results: Path) -> dict[str, str]:
    """Return the environment of a user who typed what `fsseg nnunet env` prints."""
    (line,) = fsseg("nnunet", "env").out.splitlines()
    name, _, folder = shlex.split(line)[1].partition("=")
    folders = {"nnUNet_raw": lab.root / "raw", "nnUNet_preprocessed": lab.root / "preprocessed"}
    few = {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"}
    return (
        os.environ
        | {key: str(value) for key, value in folders.items()}
        | few
        | {
            name: folder,
            "nnUNet_results": str(results),
        }
    )
