"""What an iteration of `fsseg pretrain` costs, against nnU-Net's own trainer on the same data and network.

Both trainers take their iterations in turns in one process, with SGD, batch, patch and deep supervision of the same
plans, and prepare their crops in that process: an iteration is the crops, their augmentation and the step. nnU-Net's
trainer takes unknown structures for background, which costs it nothing. Reported is the median of the ratios within the
pairs with its 95 % bootstrap interval.

    python benchmarks/pretrain_step.py --preprocessed tables/nnUNet_preprocessed --dataset 901
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import fsseg  # noqa: F401 - sets the OpenMP variables before torch is imported

# isort: split
import numpy as np
import torch
from tqdm import tqdm

from fsseg.config.json_files import write_json

LIMIT = 1.05


def main() -> None:
    """Measure, and write the result."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    os.environ["nnUNet_preprocessed"] = str(arguments.preprocessed.resolve())
    os.environ["nnUNet_n_proc_DA"] = "0"  # crops are prepared in this process, as ours are
    with TemporaryDirectory() as scratch:
        os.environ["nnUNet_results"] = scratch
        ours, theirs = _our_iteration(arguments, device, Path(scratch)), _plain_iteration(arguments, device)
        for iteration in (ours, theirs):  # kernels are chosen, the optimiser's state is made
            iteration()
        pairs = [
            _pair(ours, theirs, swapped=bool(number % 2))
            for number in tqdm(range(arguments.pairs), desc="pairs", disable=None)
        ]
    result = {
        "command": f"python {' '.join(sys.argv)}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {arguments.threads} threads",
        "versions": {"torch": torch.__version__, "system": platform.system()},
        **_summary(np.array(pairs)),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / f"pretrain_step_{arguments.plans}_{device.type}.json", result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _summary(pairs: np.ndarray) -> dict[str, object]:
    """Return medians, ratio and verdict of (pairs, 2) seconds, ours first."""
    ratios = pairs[:, 0] / pairs[:, 1]
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    verdict = "within 5 %" if high <= LIMIT else "more than 5 %" if low > LIMIT else "inconclusive"
    return {
        "pairs": len(pairs),
        "seconds_ours": round(float(np.median(pairs[:, 0])), 4),
        "seconds_nnunet": round(float(np.median(pairs[:, 1])), 4),
        "ratio": round(float(np.median(ratios)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "overhead": verdict,
    }


def _pair(ours: Callable[[], None], theirs: Callable[[], None], *, swapped: bool) -> tuple[float, float]:
    """Time one iteration of each; every other pair begins with nnU-Net's."""
    if swapped:
        their_seconds = _seconds(theirs)
        return _seconds(ours), their_seconds
    return _seconds(ours), _seconds(theirs)


def _seconds(iteration: Callable[[], None]) -> float:
    started = time.perf_counter()
    iteration()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _our_iteration(arguments: argparse.Namespace, device: torch.device, folder: Path) -> Callable[[], None]:
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    plans, dataset_json = _files(arguments)
    settings = {
        "steps": 1_000_000,
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "validation_share": 0.0,
        "checkpoint_minutes": 1e6,
    }
    trainer = make_trainer(
        plans=plans | {"fsseg": {"pretrain": settings}},
        fold="all",
        dataset_json=dataset_json,
        device=device,
        folder=folder / "ours",
        resume_from=None,
    )
    trainer.dataloader_train, _ = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    return lambda: trainer.train_step(next(trainer.dataloader_train)) and None


def _plain_iteration(arguments: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from fsseg.nnunet.quiet import quiet

    plans, dataset_json = _files(arguments)
    with quiet():
        trainer = nnUNetTrainer(
            plans=plans | {"continue_training": False},
            configuration="3d_fullres",
            fold="all",
            dataset_json=dataset_json,
            device=device,
        )
        trainer.initial_lr = 1e-4
        trainer.initialize()
        trainer.dataloader_train, _ = trainer.get_dataloaders()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.network.train()
    return lambda: trainer.train_step(next(trainer.dataloader_train)) and None


def _files(arguments: argparse.Namespace) -> tuple[dict, dict]:
    (folder,) = arguments.preprocessed.glob(f"Dataset{arguments.dataset:03d}_*")
    names = (f"{arguments.plans}.json", "dataset.json")
    plans, dataset_json = (json.loads((folder / name).read_text(encoding="utf-8")) for name in names)
    return plans, dataset_json


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preprocessed", type=Path, required=True, help="nnUNet_preprocessed")
    parser.add_argument("--dataset", type=int, default=901)
    parser.add_argument("--plans", default="headneck_cpu")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
