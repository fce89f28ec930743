"""The networks of a table, as far as they can be known before anything is there: what costs are measured on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fsseg.adaptation.cost_sample import model_of_plans
from fsseg.checkpoints.plans import CONFIGURATION
from fsseg.checkpoints.shipped_network import plans_of_family
from fsseg.config.recipes import Recipe
from fsseg.config.shipped_files import PLANS, SPECS
from fsseg.data.spec_loading import load_spec
from fsseg.experiments.definition.grid import BaseChoice
from fsseg.experiments.definition.sources import ImportedBase, PretrainedBase
from fsseg.experiments.open_table import OpenTable
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.mirroring import flips_of_adaptation, flips_of_pretraining
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.planning import read_plans_file

_OF_PHANTOMS = ("liver", "spleen", "kidney_right", "kidney_left", "urinary_bladder")


@dataclass(frozen=True)
class SampleBase:
    """A base without its weights.

    Attributes:
        plans: of its network.
        configuration: name of the configuration.
        structures: of the data that it is pretrained on; none of an imported one.
        mirroring_axes: that its predictions may flip.
    """

    plans: PlansContent
    configuration: str
    structures: tuple[str, ...]
    mirroring_axes: tuple[int, ...]

    @cached_property
    def facts(self) -> str:
        """What decides how long a step takes, as text."""
        block = resolved(self.plans, self.configuration)
        return json.dumps([block[key] for key in ("architecture", "patch_size", "batch_size")], default=str)

    @property
    def architecture(self) -> dict[str, Any]:
        """nnU-Net's architecture block."""
        return dict(resolved(self.plans, self.configuration)["architecture"])

    @property
    def patch(self) -> list[int]:
        """Voxels of a patch, in the axis order of the plans."""
        return list(resolved(self.plans, self.configuration)["patch_size"])

    def model(self, structures: Sequence[str]) -> ModelFolder:
        """Return the model without weights, with a head for some structures."""
        return model_of_plans(self.plans, self.configuration, structures, self.mirroring_axes)

    def flips(self, recipe: Recipe, structures: Sequence[str], *, uses_pretrained: bool) -> int:
        """Return how many flipped predictions an adaptation to structures averages."""
        base = self.model(structures) if uses_pretrained else None
        return int(2 ** len(flips_of_adaptation(recipe, structures, base).axes))

    def shape(self, size_mm: Sequence[float]) -> list[int]:
        """Return about the voxels of a preprocessed image, in the axis order of the plans.

        Args:
            size_mm: extents of the image as x, y, z.
        """
        spacing = resolved(self.plans, self.configuration)["spacing"]
        ordered = [size_mm[::-1][axis] for axis in self.plans["transpose_forward"]]
        return [max(1, round(size / step)) for size, step in zip(ordered, spacing, strict=True)]


def sample_base(opened: OpenTable, choice: BaseChoice) -> SampleBase | None:
    """Return a base of a table; None where only its file says what its network is.

    Raises:
        UsageError: plans or a spec do not exist, or are wrong.
        FssegError: a file of a finished base is damaged.
    """
    base = opened.table.bases[choice.name]
    if (folder := opened.base(choice)).is_dir():
        model = ModelFolder.read(folder)
        return SampleBase(model.plans, model.configuration, model.structures.names, model.mirroring_axes or ())
    if base.pretrained is not None:
        return _pretrained(opened, base.pretrained.changed(choice.pretrain))
    assert base.imported is not None
    return _imported(opened, base.imported)


def _imported(opened: OpenTable, base: ImportedBase) -> SampleBase | None:
    """Return an imported base: its network is that of its family or of the base that it is made of."""
    if base.base is not None:
        network = sample_base(opened, BaseChoice(base.base))
    else:
        plans = plans_of_family(base.family)
        network = None if plans is None else SampleBase(plans, CONFIGURATION, (), ())
    if network is None or base.plans is None:
        return network
    plans = read_plans_file(opened.place.found(base.plans, PLANS))
    plans["configurations"][CONFIGURATION]["architecture"] = network.architecture
    return SampleBase(plans, CONFIGURATION, network.structures, network.mirroring_axes)


def _pretrained(opened: OpenTable, base: PretrainedBase) -> SampleBase:
    names = _OF_PHANTOMS if opened.table.phantoms else _annotated(opened, base.dataset)
    axes = flips_of_pretraining(base.all_settings("the pretraining"), names).axes
    return SampleBase(read_plans_file(opened.place.found(base.plans, PLANS)), CONFIGURATION, names, axes)


def _annotated(opened: OpenTable, dataset: str) -> tuple[str, ...]:
    specs = [load_spec(opened.place.found(word, SPECS)) for word in opened.table.datasets[dataset].specs]
    return tuple(dict.fromkeys(name for spec in specs for name in spec.annotated))
