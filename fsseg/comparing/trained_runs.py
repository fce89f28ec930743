"""Run folders as a comparison sees them: how to predict with them, what they segment, what they have learned from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsseg.config.errors import UsageError
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.data.splits import SUPPORT_KEY
from fsseg.data.structures import STRUCTURES_NAME, load_structures
from fsseg.methods.adapter_file import ADAPTER_NAME
from fsseg.pretraining.held_out import held_out_cases
from fsseg.reporting.tables import count

_MODEL = ("plans.json", "dataset.json")


@dataclass(frozen=True)
class TrainedRun:
    """A run to predict with.

    Attributes:
        run: the model folder; or else
        base, adapters: the base and the adapter file, of a method that does not merge.
        structures: what it segments.
        learned: cases that it or its base was trained on, as far as their folders say.
        about: method, support cases and trained parameters, in words; empty where the folder does not say.
    """

    run: Path | None
    base: Path | None
    adapters: tuple[Path, ...]
    structures: tuple[str, ...]
    learned: frozenset[str]
    about: str


def is_trained_run(folder: Path) -> bool:
    """Return whether a folder is a model folder or holds an adapter, rather than label maps."""
    return (folder / ADAPTER_NAME).is_file() or any(folder.glob("fold_*/checkpoint_*.pth"))


def read_trained_run(folder: Path) -> TrainedRun:
    """Read what the files of a run say; no weights.

    Raises:
        UsageError: it does not merge, and its base is gone.
        FssegError: a file is damaged.
    """
    file = folder / MANIFEST_NAME
    manifest = read_json(file) if file.is_file() else {}
    merged = all((folder / name).is_file() for name in _MODEL)
    return TrainedRun(
        run=folder if merged else None,
        base=None if merged else _base(folder, manifest),
        adapters=() if merged else (folder / ADAPTER_NAME,),
        structures=load_structures(folder).names if merged else tuple(manifest.get("structures", ())),
        learned=frozenset(_learned(folder, manifest)),
        about=_about(manifest),
    )


def _base(folder: Path, manifest: dict[str, Any]) -> Path:
    base = Path(manifest.get("base", {}).get("path", ""))
    if manifest and base.is_dir():
        return base
    raise UsageError(
        f"The base of {folder} is needed, because its method does not merge, but is not there: {base}\n"
        f"  Put it back; or predict by `fsseg predict --base BASE --adapter {folder / ADAPTER_NAME}`, and give the"
        " folder of predictions."
    )


def _learned(folder: Path, manifest: dict[str, Any]) -> set[str]:
    """Return the cases of a run and of what it started from."""
    seen = set(manifest.get("support", ()))
    if (folder / "dataset.json").is_file():
        seen |= set(read_json(folder / "dataset.json").get(SUPPORT_KEY, ()))
    if manifest.get("command") == "pretrain" and (folder / STRUCTURES_NAME).is_file():
        seen |= set(load_structures(folder).cases) - set(held_out_cases(folder))
    base = Path((manifest.get("base") or {}).get("path", ""))
    file = base / MANIFEST_NAME
    return seen | _learned(base, read_json(file)) if file.is_file() and base != folder and base.name else seen


def _about(manifest: dict[str, Any]) -> str:
    if manifest.get("command") == "pretrain":
        return f"pretrained on {count(manifest['cases'])} cases"
    if manifest.get("command") != "adapt":
        return ""
    parameters, shots = manifest["parameters"], len(manifest["support"])
    trained = count(parameters["trainable"] + parameters["head"])
    return f"{manifest['method']}, {shots} support case{'' if shots == 1 else 's'}, {trained} trained parameters"
