"""Which axes a training flips and a prediction averages over, decided in one place: left is not right.

An axis is one of the network's array, which is the image after the transposition of the plans. A reflection along any
axis turns a body into its mirror image, up to a rotation: one structure with a side rules out all three.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fsseg.config.base import Mirroring
from fsseg.config.errors import UsageError, first_of
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import Recipe
from fsseg.data.side_names import Sides, sides_of
from fsseg.nnunet.model_folder import ModelFolder

ALL_AXES = (0, 1, 2)
_SHOWN = 5


@dataclass(frozen=True)
class Flips:
    """A decision.

    Attributes:
        axes: to flip; none or some of the three.
        reason: why, for the user.
    """

    axes: tuple[int, ...]
    reason: str


def flips_of_pretraining(settings: PretrainSettings, names: Iterable[str]) -> Flips:
    """Return the flips of a pretraining on some structures; it is long enough to learn those that its start had not.

    Raises:
        UsageError: `mirroring=true`, and a structure has a side or the augmentation no flips.
    """
    return _flips(sides_of(names), "mirroring", settings.mirroring, settings.augmentation, ALL_AXES)


def flips_of_adaptation(
    recipe: Recipe, names: Iterable[str], base: ModelFolder | None, beside: Iterable[str] = ()
) -> Flips:
    """Return the flips of an adaptation: none that its base does not allow.

    Args:
        recipe: how it is trained.
        names: of its structures.
        base: that it starts from; None from scratch. How one without a head was trained is not known.
        beside: of other structures of the dataset, which tell what a letter in a name means.

    Raises:
        UsageError: `recipe.mirroring=true`, and a structure has a side, the augmentation no flips, or the base allows
            none.
    """
    allowed: tuple[int, ...] | None = ALL_AXES
    if base is not None:
        names = (*base.structures.names, *names)
        allowed = base.mirroring_axes or (() if base.has_head else None)
    return _flips(sides_of(names, beside), "recipe.mirroring", recipe.mirroring, recipe.augmentation, allowed)


def kept_flips(names: Iterable[str], axes: Sequence[int]) -> Flips:
    """Return what stays of the axes that the file of a finished network allows; the reason is empty where all do."""
    sides = sides_of(names)
    if sides.of and axes:
        return Flips((), f"{_listed(sides)}; so no flips in predictions, though the file allows them.")
    return Flips(tuple(axes), "")


def _flips(sides: Sides, setting: str, wanted: Mirroring, augmentation: str, allowed: Sequence[int] | None) -> Flips:
    if wanted is False:
        return Flips((), f"{setting}=false: no flips.")
    obstacle = _obstacle(sides, augmentation, allowed)
    if obstacle and wanted is True:
        raise UsageError(f"{setting}=true asks for flips, but: {obstacle}\n  allowed here: auto, false")
    if obstacle:
        return Flips((), obstacle)
    if allowed is None and wanted is not True:
        return Flips((), f"It is not known whether the base was trained with flips; so none. {setting}=true has them.")
    axes = ALL_AXES if allowed is None else tuple(sorted(allowed))
    of_base = "" if axes == ALL_AXES else ", the only ones that the base allows"
    doubts = f" {_doubts(sides)} {setting}=false has none." if sides.doubtful else ""
    return Flips(axes, f"No structure has a side: flips along the axes {first_of(axes, 3)}{of_base}.{doubts}")


def _obstacle(sides: Sides, augmentation: str, allowed: Sequence[int] | None) -> str:
    """Return why there can be no flips, or nothing."""
    if augmentation != "nnunet":
        return f"The augmentation {augmentation} has no flips; so none in predictions."
    if sides.of:
        return f"{_listed(sides)}; so no flips.{_letters(sides)}"
    return "The base allows no flips; so none." if allowed is not None and not allowed else ""


def _listed(sides: Sides) -> str:
    pairs = [f"{left}/{right}" for right, left in sides.pairs]
    kinds = {"paired": pairs, "on one side": sides.single}
    text = "; ".join(f"{kind}: {first_of(names, _SHOWN)}" for kind, names in kinds.items() if names)
    return text[0].upper() + text[1:]


def _letters(sides: Sides) -> str:
    """Name the structures whose side no whole word says, where none has such a word."""
    if len(sides.by_letter) < len(sides.of):
        return ""
    taken = [f"{name} ({sides.of[name]})" for name in sides.by_letter]
    return f" A letter or part of a word decided: {first_of(taken, _SHOWN)}."


def _doubts(sides: Sides) -> str:
    return f"A letter may mean a side, but was not taken to: {first_of(sides.doubtful, _SHOWN)}."
