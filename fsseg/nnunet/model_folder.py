"""nnU-Net model folders: plans.json, dataset.json and fold_X/checkpoint_final.pth, read without executing pickles."""

import errno
import hashlib
import json
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.manifest import write_json
from fsseg.data.structures import Structures, structures_of_dataset_json
from fsseg.models.networks import build_network

CHECKPOINT_NAME = "checkpoint_final.pth"
_PLANS_KEYS = ("configurations", "plans_name", "transpose_forward", "transpose_backward", "image_reader_writer")
_DATASET_KEYS = ("labels", "channel_names", "file_ending")


@dataclass(frozen=True)
class ModelFolder:
    """A trained nnU-Net model: everything needed to rebuild, adapt and run it.

    Attributes:
        path: the folder.
        plans: content of plans.json.
        dataset_json: content of dataset.json; its regions are the channels of the head, in order.
        configuration: name of the nnU-Net configuration, such as 3d_fullres.
        weights: state dict of the network, aliases included.
        mirroring_axes: axes that test-time mirroring may flip, or None.
        sha256: hash of the weights (names, shapes and values), by which adapters know their base.
    """

    path: Path
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    configuration: str
    weights: dict[str, Tensor] = field(repr=False)
    mirroring_axes: tuple[int, ...] | None
    sha256: str

    @property
    def structures(self) -> Structures:
        """The structures of the head, in channel order."""
        return Structures(integers=structures_of_dataset_json(self.dataset_json, self.path).integers)

    def plans_manager(self) -> PlansManager:
        """Return nnU-Net's view of the plans."""
        return PlansManager(deepcopy(self.plans))

    def configuration_manager(self) -> ConfigurationManager:
        """Return nnU-Net's view of the configuration."""
        return self.plans_manager().get_configuration(self.configuration)

    def build_network(self) -> nn.Module:
        """Build the network with its pretrained weights; logits of the full resolution only."""
        network = network_of_plans(
            self.plans, self.configuration, self.dataset_json, output_channels=len(self.structures.names)
        )
        try:
            problems = network.load_state_dict(self.weights, strict=False)
        except RuntimeError as error:
            first = str(error).splitlines()[1:2] or [str(error)]
            raise FssegError(
                f"The weights in {self.path} do not fit the network of its plans: {first[0].strip()}"
            ) from None
        if problems.missing_keys or problems.unexpected_keys:
            raise FssegError(
                f"The weights in {self.path} do not fit the network of its plans:"
                f" {len(problems.missing_keys)} missing, {len(problems.unexpected_keys)} unexpected keys"
                f" (first: {(problems.missing_keys + problems.unexpected_keys)[0]})."
            )
        return network


def network_of_plans(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    *,
    output_channels: int,
    deep_supervision: bool = False,
) -> nn.Module:
    """Build the untrained network that plans describe."""
    _require_configuration(plans, configuration, "The plans")
    manager = PlansManager(deepcopy(plans))
    block = manager.get_configuration(configuration).configuration["architecture"]
    channels = determine_num_input_channels(manager, configuration, dataset_json)
    return build_network(
        block, input_channels=channels, output_channels=output_channels, deep_supervision=deep_supervision
    )


def read_model_folder(path: Path) -> ModelFolder:
    """Read a model folder as `fsseg pretrain`, `fsseg adapt` and nnU-Net leave it.

    Raises:
        UsageError: the folder is no model folder, is unfinished, or has a softmax head.
        FssegError: a file is damaged.
    """
    checkpoint_file = _checkpoint_file(path)
    plans = _read_json(path / "plans.json", _PLANS_KEYS)
    dataset_json = _read_json(path / "dataset.json", _DATASET_KEYS)
    checkpoint = load_checkpoint_safely(checkpoint_file)
    _require_nnunet_checkpoint(checkpoint, checkpoint_file)
    configuration = checkpoint["init_args"]["configuration"]
    _require_configuration(plans, configuration, str(path / "plans.json"))
    if not _has_regions(plans, dataset_json, path / "dataset.json"):
        raise UsageError(
            f"The checkpoint in {path} has a softmax head (labels without regions).\n"
            "  allowed: region-based checkpoints, as `fsseg pretrain` makes them on an assembled dataset."
        )
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    return ModelFolder(
        path=path,
        plans=plans,
        dataset_json=dataset_json,
        configuration=configuration,
        weights=checkpoint["network_weights"],
        mirroring_axes=tuple(axes) if axes else None,
        sha256=hash_of_weights(checkpoint["network_weights"]),
    )


def write_model_folder(
    folder: Path,
    *,
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    configuration: str,
    weights: dict[str, Tensor],
    mirroring_axes: tuple[int, ...] | None,
) -> None:
    """Write a folder that stock `nnUNetv2_predict_from_modelfolder` loads where fsseg is not installed."""
    fold = folder / "fold_0"
    fold.mkdir(parents=True, exist_ok=True)
    # nnU-Net reads channels in the order of the keys of dataset.json, so the order is kept.
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", dataset_json)
    save_checkpoint(fold / CHECKPOINT_NAME, weights, configuration, mirroring_axes)


def save_checkpoint(
    path: Path, weights: dict[str, Tensor], configuration: str, axes: tuple[int, ...] | None, **extra: Any
) -> None:
    """Write a checkpoint in nnU-Net's format; complete or absent, and loadable with `weights_only=True`.

    Raises:
        OSError: not all of it could be written.
    """
    content = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",  # the plain class builds this network, so stock nnU-Net needs no plug-in
        "init_args": {"configuration": configuration},
        "inference_allowed_mirroring_axes": axes,
        **extra,
    }
    temporary = path.with_name(path.name + ".tmp")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    except RuntimeError as error:  # torch's writer does not say that the disk is full
        raise OSError(errno.EIO, "not all bytes could be written, as on a full disk", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint_safely(path: Path) -> dict[str, Any]:
    """Load a checkpoint without executing pickled code.

    Only tensors, plain containers and the numpy scalars of nnU-Net's own logs are accepted.

    Raises:
        FssegError: the file is damaged, no checkpoint, or holds anything else.
    """
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.serialization.safe_globals(_numpy_scalars()))
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a hostile or damaged file may fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FssegError(
            f"{path} cannot be loaded as a checkpoint: {reason}\n"
            "  The file is damaged, is no checkpoint, or holds objects that would execute code."
        ) from None
    if not isinstance(content, dict):
        raise FssegError(f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a mapping.")
    return content


def hash_of_weights(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and values of a state dict, independent of the file's container."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else str(tensor.item()).encode())
    return digest.hexdigest()


def _checkpoint_file(path: Path) -> Path:
    if not path.is_dir():
        unfinished = path.with_name(path.name + ".partial")
        hint = " (an unfinished run lies beside it; finish it with --resume)" if unfinished.is_dir() else ""
        raise UsageError(f"Checkpoint folder not found: {path}{hint}\n  Give the --out folder of `fsseg pretrain`.")
    found = sorted(path.glob(f"fold_*/{CHECKPOINT_NAME}"))
    if not found or not (path / "plans.json").is_file() or not (path / "dataset.json").is_file():
        raise UsageError(
            f"{path} is not a model folder: plans.json, dataset.json and fold_*/{CHECKPOINT_NAME} are needed.\n"
            "  Give the --out folder of `fsseg pretrain`, or an nnU-Net results folder."
        )
    return found[0]


def _read_json(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FssegError(f"{path} is damaged: {error}") from None
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise FssegError(f"{path} is damaged: it lacks {', '.join(missing)}.")
    return content


def _require_nnunet_checkpoint(checkpoint: dict[str, Any], file: Path) -> None:
    missing = [key for key in ("network_weights", "init_args") if not isinstance(checkpoint.get(key), dict)]
    if not missing and "configuration" not in checkpoint["init_args"]:
        missing = ["configuration"]
    if not missing and not all(isinstance(value, Tensor) for value in checkpoint["network_weights"].values()):
        missing = ["tensors"]
    if missing:
        raise UsageError(f"{file} is not an nnU-Net checkpoint: it has no {' and no '.join(missing)}.")


def _require_configuration(plans: dict[str, Any], configuration: str, where: str) -> None:
    allowed = plans["configurations"]
    if configuration not in allowed:
        raise UsageError(f"{where}: no configuration {configuration!r}.\n  allowed: {', '.join(allowed)}")
    try:
        PlansManager(deepcopy(plans)).get_configuration(configuration)
    except (KeyError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise FssegError(
            f"{where}: configuration {configuration!r} holds no architecture that can be read"
            f" ({type(error).__name__}: {error})."
        ) from None


def _has_regions(plans: dict[str, Any], dataset_json: dict[str, Any], where: Path) -> bool:
    try:
        return bool(PlansManager(deepcopy(plans)).get_label_manager(dataset_json).has_regions)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise FssegError(f"{where} is damaged: {error}") from None


def _numpy_scalars() -> list[Any]:
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.bool_)]
    return [
        np._core.multiarray.scalar,  # type: ignore[attr-defined]
        np.dtype,
        *kinds,
    ]
