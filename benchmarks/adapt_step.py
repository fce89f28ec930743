"""What a training step of each adaptation method costs, against full fine-tuning on the same crops.

Every method is measured in pairs with full fine-tuning, step by step in turns in one process, so that what else the
machine does falls on both. Reported are the median seconds of a step, the median of the ratios within the pairs with
their quartiles, and memory: on CUDA the peak that torch allocated for it; on a CPU what a step holds at its largest,
counted exactly: tensors kept for the backward pass, gradients, and AdamW's two moments. "plain" is full fine-tuning
without what all other lines have: mixed precision (on CUDA, or where --precision asks for it), and on a CPU the
channels-last layout. Methods that train on cached features are measured in pairs with the same method on images, too:
"saved" is how many times as long that takes.

    python benchmarks/adapt_step.py                                                  # a small U-Net, 40^3, batch 2
    python benchmarks/adapt_step.py --precision bfloat16                             # on a CPU that has it
    python benchmarks/adapt_step.py --plans plans/swinunetr_fseft.json --patch 64 --batch 1 --pairs 3
    python benchmarks/adapt_step.py --plans plans/swinunetr_fseft.json plans/resenc_l.json --patch 96 --device cuda
"""

import argparse
import csv
import gc
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import get_args

import fsseg  # noqa: F401 - sets the OpenMP variables before torch is imported

# isort: split
import torch
from torch import Tensor, nn

from fsseg.config.base import Precision
from fsseg.config.errors import FssegError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import DecoderChoice
from fsseg.methods.registry import create_method, method_class, method_names
from fsseg.models.heads import replace_heads
from fsseg.models.parts import parts_of
from fsseg.nnunet.planning import CONFIGURATION, read_plans_file
from fsseg.nnunet.plans_network import network_of_plans
from fsseg.reporting.tables import text_table
from fsseg.training.activation_checkpointing import checkpointed
from fsseg.training.cost import kept_for_backward, mib_of
from fsseg.training.feature_cache import head_input
from fsseg.training.losses import MaskedLoss, mean_bce_dice
from fsseg.training.placement import mixed_precision, place
from fsseg.training.step import Optimisation, gradient_scaler, optimisation_step

STRUCTURES = 7
ALL_METHODS = [name for name in method_names() if ":" not in name]
RATE = 1e-4  # small enough that nothing diverges; its value does not change the cost
DATASET_JSON = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, **{f"structure{i}": [i, i] for i in range(1, STRUCTURES + 1)}},
    "regions_class_order": list(range(1, STRUCTURES + 1)),
}


@dataclass(frozen=True)
class Row:
    """One line of the table; ratios are to full fine-tuning without any saving.

    `saved` is the seconds of a step on images by those of one on cached features, of methods that can do both.
    """

    network: str
    method: str
    trainable: int
    seconds: float
    time_ratio: float
    time_ratio_low: float
    time_ratio_high: float
    memory_mib: float
    memory_ratio: float
    saved: float | None = None
    saved_low: float | None = None
    saved_high: float | None = None


class Trainer:
    """A network under one method, ready to take steps on one fixed batch."""

    def __init__(self, base: Callable[[], nn.Module], arguments: argparse.Namespace, variant: "Variant") -> None:
        self.device = torch.device(arguments.device)
        self.others = torch.cuda.memory_allocated() if self.device.type == "cuda" else 0
        torch.manual_seed(0)
        network = base()
        replace_heads(network, [0.05] * STRUCTURES)  # as every adaptation does
        self.adapted = AdaptedNetwork(network, create_method(variant.method), variant.decoder)
        network.to(self.device)
        if not variant.plain:
            place(network, self.device)
        self.adapted.train_mode()
        parameters = list(self.adapted.trainable().values())
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, RATE)
        self.adapted.method.on_training_start(network, 10_000)
        self.precision = arguments.precision
        self.scaler = gradient_scaler(self.device, self.precision)
        self.variant = variant
        extents = (arguments.batch, 1, *[arguments.patch] * 3)
        self.image = torch.randn(extents, device=self.device)
        self.target = torch.rand((arguments.batch, STRUCTURES, *extents[2:]), device=self.device) < 0.05
        self.valid = torch.ones_like(self.target)
        self.forward: Callable[[Tensor], Tensor] = network
        if variant.cached:
            with torch.no_grad(), mixed_precision(self.device, self.precision):
                self.image = head_input(network, self.image)
            self.forward = parts_of(network).head

    def step(self) -> float:
        """Take a step; return its seconds."""
        with checkpointed(self.adapted.network, enabled=self.variant.checkpointed):
            started = self._now()  # a training finds the blocks to checkpoint once, not in every step
            optimisation_step(
                Optimisation(self.optimizer, self.parameters, self.device, self.precision, self.scaler),
                self._loss,
                before_step=lambda: self.adapted.method.before_step(self.adapted.network),
            )
            self.adapted.method.after_step(self.adapted.network, RATE)
            return self._now() - started

    def memory_mib(self) -> float:
        """Return the memory of a step."""
        if self.device.type == "cuda":
            self.step()  # AdamW makes its moments
            torch.cuda.reset_peak_memory_stats()
            self.step()
            return (torch.cuda.max_memory_allocated() - self.others) / 2**20
        network = self.adapted.network
        precision = mixed_precision(self.device, self.precision)
        with precision, checkpointed(network, enabled=self.variant.checkpointed), kept_for_backward(network) as kept:
            loss = self._loss()
        memory = kept() + 3 * mib_of(self.parameters)
        del loss  # it held what was counted
        return memory

    def _loss(self) -> Tensor:
        with torch.autocast(self.device.type, enabled=False) if self.variant.plain else nullcontext():
            return self._value()

    def _value(self) -> Tensor:
        loss = MaskedLoss(mean_bce_dice)(self.forward(self.image), self.target, self.valid)
        penalty = self.adapted.method.penalty(self.adapted.network)
        return loss if penalty is None else loss + penalty

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclass(frozen=True)
class Variant:
    """A method with a decoder choice, and what is saved.

    Attributes:
        method, decoder: what is trained.
        cached: trains on cached features.
        checkpointed: computes activations again in the backward pass.
        plain: without what all others have: mixed precision, and on a CPU the channels-last layout.
    """

    method: str
    decoder: DecoderChoice
    cached: bool = False
    checkpointed: bool = False
    plain: bool = False

    @property
    def label(self) -> str:
        """How the table calls it."""
        both = len(method_class(self.method).decoder_choices) > 1
        parts = [self.method, "+ decoder" * (both and self.decoder == "tuned"), "cached" * self.cached]
        more = ["checkpointed"] * self.checkpointed + ["plain"] * self.plain
        return ", ".join([" ".join(filter(None, parts)), *more])


FULL = Variant("full", "tuned")


def variants(names: list[str]) -> list[Variant]:
    """Return the lines to measure: every method with every decoder choice, alone and with what saves."""
    found = [Variant("full", "tuned", plain=True)]
    for name in names:
        kind = method_class(name)
        if kind.training_free or name == "from_scratch":
            continue
        for decoder in kind.decoder_choices:
            found.append(Variant(name, decoder))
            found.append(Variant(name, decoder, **{"cached" if kind.reads_features_only else "checkpointed": True}))
    return found


def measure(plans: Path, arguments: argparse.Namespace) -> list[Row]:
    """Measure all methods on one network."""

    def base() -> nn.Module:
        return network_of_plans(read_plans_file(plans), CONFIGURATION, DATASET_JSON, output_channels=STRUCTURES)

    rows = []
    full = Trainer(base, arguments, FULL)
    full_memory = full.memory_mib()
    for variant in variants(arguments.methods):
        try:
            other = full if variant == FULL else Trainer(base, arguments, variant)
        except FssegError as error:
            sys.stderr.write(f"{plans.stem}: {variant.label} is left out: {str(error).splitlines()[0]}\n")
            continue
        memory = other.memory_mib()
        pairs = in_turns(full, other, arguments.pairs)
        low, middle, high = quartiles([mine / theirs for theirs, mine in pairs])
        saved: list[float | None] = [None] * 3
        if variant.cached:
            images = Trainer(base, arguments, replace(variant, cached=False))
            saved = [*quartiles([slow / fast for slow, fast in in_turns(images, other, arguments.pairs)])]
            del images
        rows.append(
            Row(
                network=f"{plans.stem}, {arguments.patch}^3, batch {arguments.batch}",
                method=variant.label,
                trainable=sum(p.numel() for p in other.parameters),
                seconds=statistics.median(mine for _, mine in pairs),
                time_ratio=middle,
                time_ratio_low=low,
                time_ratio_high=high,
                memory_mib=memory,
                memory_ratio=memory / full_memory,
                saved=saved[1],
                saved_low=saved[0],
                saved_high=saved[2],
            )
        )
        sys.stderr.write(f"{rows[-1].method}: {rows[-1].time_ratio:.2f} of the time\n")
        if other is not full:
            del other
            gc.collect()
    return rows


def in_turns(first: Trainer, second: Trainer, pairs: int) -> list[tuple[float, float]]:
    """Return the seconds of steps taken in turns; the first pair warms up and is left out."""
    return [(first.step(), second.step()) for _ in range(pairs + 1)][1:]


def quartiles(ratios: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    ordered = sorted(ratios)
    return ordered[len(ordered) // 4], statistics.median(ordered), ordered[-1 - len(ordered) // 4]


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    header = ["network", "method", "trains", "s/step", "time", "quartiles", "MiB", "memory", "saved", "quartiles"]
    cells = [
        [
            row.network,
            row.method,
            f"{row.trainable:,}",
            f"{row.seconds:.3f}",
            f"{row.time_ratio:.2f}",
            f"{row.time_ratio_low:.2f}–{row.time_ratio_high:.2f}",
            f"{row.memory_mib:,.0f}",
            f"{row.memory_ratio:.2f}",
            "" if row.saved is None else f"{row.saved:.1f}",
            "" if row.saved is None else f"{row.saved_low:.1f}–{row.saved_high:.1f}",
        ]
        for row in rows
    ]
    return text_table(header, cells)


def name_of(arguments: argparse.Namespace) -> list[str]:
    """Return what the files are called by: everything that decides the rows, so that no table replaces another."""
    crops = [str(arguments.patch), f"batch{arguments.batch}"]
    words = [*(plans.stem for plans in arguments.plans), *crops, arguments.device]
    words += [f"{arguments.threads}threads"] if arguments.device == "cpu" else []
    words += [arguments.precision] if arguments.precision != "auto" else []
    return words + (arguments.methods if arguments.methods != ALL_METHODS else [])


def main() -> None:
    """Measure and write the tables."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {arguments.threads} threads"
    rows = [row for plans in arguments.plans for row in measure(plans, arguments)]
    title = f"{shlex.join(['python', *sys.argv])}\n{device}, torch {torch.__version__}, {platform.system()}\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = "_".join(["adapt_step", *name_of(arguments)])
    (arguments.out / f"{name}.txt").write_text(f"{title}\n{table(rows)}\n", encoding="utf-8")
    with (arguments.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    sys.stdout.write(f"{title}\n{table(rows)}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=Path, nargs="+", default=[Path("plans/headneck_cpu.json")])
    parser.add_argument("--methods", nargs="+", default=ALL_METHODS)
    parser.add_argument("--patch", type=int, default=40, help="edge of the cubic patch")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=10, help="steps of each method, in turns with full fine-tuning")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="see recipe.precision")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
