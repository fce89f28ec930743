"""Hours of the pretrainings of a table: a step is taken as one of full fine-tuning of the same network and batch."""

from dataclasses import dataclass

from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import Recipe
from fsseg.experiments.costs.bases import sample_base
from fsseg.experiments.costs.kinds import pretraining_key
from fsseg.experiments.costs.lookup import CostLookup
from fsseg.experiments.costs.measure import KindCost
from fsseg.experiments.definition.grid import BaseChoice
from fsseg.experiments.open_table import OpenTable


@dataclass(frozen=True)
class PretrainingHours:
    """A pretraining that is yet to be done.

    Attributes:
        name: of the base.
        hours: of all steps and validations; None where it is not known.
        note: why it is not known.
    """

    name: str
    hours: float | None
    note: str = ""


def pretraining_hours(opened: OpenTable, lookup: CostLookup) -> list[PretrainingHours]:
    """Return the pretrainings that are yet to be done.

    Raises:
        UsageError: plans or specs do not exist, or are wrong.
    """
    choices: list[BaseChoice] = []
    for choice in opened.bases:
        imported = opened.table.bases[choice.name].imported
        source = BaseChoice(imported.base) if imported and imported.base else choice
        choices += [source] if source not in choices else []
    lines = [_hours(opened, choice, lookup) for choice in choices if not opened.base(choice).is_dir()]
    return [line for line in lines if line is not None]


def _hours(opened: OpenTable, choice: BaseChoice, lookup: CostLookup) -> PretrainingHours | None:
    pretrained, base = opened.table.bases[choice.name].pretrained, sample_base(opened, choice)
    if pretrained is None or base is None:
        return None
    name = choice.title
    settings = pretrained.changed(choice.pretrain).all_settings(name)
    like = AdaptationSettings(
        structures=tuple(f"structure_{number}" for number in range(max(1, len(base.structures)))),
        method="full",
        recipe=Recipe(precision=settings.precision),
    )
    cost = lookup.find(pretraining_key(base, settings.precision), f"pretraining of {name}", base, like)
    if isinstance(cost, str):
        return PretrainingHours(name, None, cost)
    return PretrainingHours(name, round(_seconds(settings, cost) / 3600, 3))


def _seconds(settings: PretrainSettings, cost: KindCost) -> float:
    epochs = -(-settings.steps // settings.steps_per_epoch)
    validating = epochs * settings.validation_crops * cost.tile_seconds
    return settings.steps * settings.accumulate * cost.step.seconds_per_step + validating
