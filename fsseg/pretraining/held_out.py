"""The cases that a finished pretraining held out, for whoever scores it on them."""

from pathlib import Path

from fsseg.config.errors import FssegError, UsageError, shown
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME

HELD_OUT_NAME = "held_out.txt"  # one case a line, as --cases and --test read them
_KEY = "held_out"  # of the manifest


def held_out_cases(run_folder: Path) -> tuple[str, ...]:
    """Return the cases that a run of `fsseg pretrain` held out, sorted; none with --fold all.

    Raises:
        UsageError: the folder has no manifest, so it is no such run.
        FssegError: the manifest is damaged.

    Example:
        >>> held_out_cases(Path("runs/universal_fold_0"))
        ('HeadNeckBone_pt_3', 'HeadNeckNerve_pt_11')
    """
    manifest = run_folder / MANIFEST_NAME
    if not manifest.is_file():
        raise UsageError(f"{run_folder} has no {MANIFEST_NAME}.\n  Give the run folder of a finished `fsseg pretrain`.")
    names = read_json(manifest).get(_KEY, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FssegError(f"{manifest} is damaged: {_KEY} must be a list of cases, got {shown(names)}.")
    return tuple(names)


def write_held_out(cases: tuple[str, ...], run_folder: Path) -> None:
    """Write held_out.txt, unless no case is held out: a list of none is refused wherever one is read."""
    if cases:
        (run_folder / HELD_OUT_NAME).write_text("".join(f"{case}\n" for case in cases), encoding="utf-8")
