"""The Python API of the main job: what `fsseg adapt` and `fsseg predict` do, with the network in memory.

What a user can act on is raised as `fsseg.config.errors.FssegError`; its kind `UsageError` is of what was asked for.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsseg import __version__
from fsseg.adaptation.in_memory import Adaptation
from fsseg.adaptation.outcome import carry_out
from fsseg.adaptation.prepare import prepare
from fsseg.adaptation.settings import WHERE, from_keywords
from fsseg.adaptation.task import make_task
from fsseg.config.adaptation import DEFAULT_SHOTS, RunRequest
from fsseg.config.base import validated
from fsseg.config.errors import UsageError
from fsseg.config.manifest import sha256_of_file
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.stages.adapt import AdaptConfig, run_adapt
from fsseg.stages.import_checkpoint import ImportConfig, run_import

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


def load_model(path: PathLike, **settings: Any) -> ModelFolder:
    """Load a pretrained network to start from.

    A checkpoint file is imported as `fsseg import` does, once: the model lies in ~/.cache/fsseg/imported (below
    $XDG_CACHE_HOME if that is set), under a hash of the file and the settings, and may be deleted at any time.

    Args:
        path: a model folder of `fsseg pretrain`, `fsseg import`, `fsseg adapt` or nnU-Net; or a public checkpoint file.
        settings: for a file, what else `fsseg import` is told: family, labels, channels, plans, patch_size, ...

    Raises:
        fsseg.config.errors.UsageError: the folder is no model folder, or is unfinished; the file is of no known family.
        fsseg.config.errors.FssegError: a file is damaged.

    Example:
        >>> base = fsseg.load_model("runs/universal")
        >>> base.structures.names
        ('liver', 'spleen')
        >>> base = fsseg.load_model("downloads/supervised_suprem_unet_2100.pth")
    """
    path = Path(path)
    if path.is_file():
        return ModelFolder.read(_imported(path, settings))
    if settings:
        raise UsageError(f"{', '.join(settings)} is said of a checkpoint file, and {path} is none.\n  Leave it out.")
    return ModelFolder.read(path)


def _imported(file: Path, settings: dict[str, Any]) -> Path:
    decides = json.dumps([__version__, sha256_of_file(file), settings], sort_keys=True, default=str)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fsseg" / "imported"
    folder = cache / hashlib.sha256(decides.encode()).hexdigest()[:16]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        result = run_import(validated(ImportConfig, {"file": file, "out": folder, **settings}, WHERE))
        for note in result.plan.notes:
            log.warning("%s", note)
    return folder


def adapt(
    base: ModelFolder | PathLike,
    *,
    dataset: str | int,
    structures: Iterable[str],
    shots: int = DEFAULT_SHOTS,
    method: str | None = None,
    out: PathLike | None = None,
    **settings: Any,
) -> Adaptation:
    """Adapt a pretrained network to structures of a dataset from a few labelled cases.

    Args:
        base: the pretrained network, as `load_model` returns or takes it.
        dataset: number or name of a dataset in nnUNet_raw.
        structures: structures to adapt to, together in one network.
        shots: support cases to draw from the pool; with `cases` their number.
        method: name of the method, see `fsseg methods`; None takes lora with a tuned decoder.
        out: run folder to make, as `fsseg adapt` does: complete or absent, and one that was stopped is resumed.
            None writes nothing until `Adaptation.save`.
        settings: further settings, and options of the method by name, such as rank=8. Settings are
            cases: support cases by name;
            pool, test: cases to draw from, and cases that are never drawn: names, or a file with one a line;
            decoder: "frozen" or "tuned" (default: the method's);
            head: "base", or "new" for new head rows where the base knows a structure's name;
            recipe: "default", "fseft", "arena" or "medagi", or a mapping of settings over the default;
            transductive: cases whose images take part without their label maps: names, or a file with one a line;
            estimate: "loo" also estimates the DSC by leave-one-out;
            seed: decides draw, new weights and crops (default: 0);
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        fsseg.config.errors.UsageError: unknown structure, case, method, option or setting, or what does not go
            together.
        fsseg.config.errors.FssegError: a support case cannot be learned from, or a file is damaged.

    Example:
        >>> result = fsseg.adapt("runs/universal", dataset=104, structures=["larynx"], shots=5, method="lora", rank=8)
        >>> mask = result.predict("ct.nii.gz")
        >>> result.save("runs/larynx")
    """
    path, model = _base(base)
    asked = {"dataset": str(dataset), "structures": structures, "shots": shots, "method": method, **settings}
    values = {**from_keywords(asked), "checkpoint": path}
    if out is not None:
        return Adaptation(run_adapt(validated(AdaptConfig, {**values, "out": out}, WHERE), base=model).outcome)
    request = validated(RunRequest, values, WHERE)
    return Adaptation(carry_out(prepare(make_task(request, model or path))))


def _base(base: ModelFolder | PathLike) -> tuple[Path, ModelFolder | None]:
    """Return the folder of a base, and the model where it is loaded; a folder is read when the settings are checked."""
    if not isinstance(base, ModelFolder) and not Path(base).is_file():
        return Path(base), None
    model = base if isinstance(base, ModelFolder) else load_model(base)
    return model.path, model
