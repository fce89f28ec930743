"""The contract of every adaptation method.

A method says what it inserts into a network, which pretrained parameters it trains, and what happens around a step.
Freezing, the segmentation head, decoder tuning, saving, merging and reporting are the same for all methods and live
in `adapted_network.py`. A method never looks at another method, and nothing outside looks at a method's name.

Two ways of inserting survive nnU-Net's aliased modules, deepcopy and stock key names: a parametrization of a weight,
which also merges; and a submodule registered on the layer it belongs to, called by a forward hook that takes it from
the module it is given. Neither puts a module in the place of another.

Hooks in the order of their calls; all have a default that does nothing:

    applied to a network   unsupported_reason, notes, inject, pretrained_to_train
    before a training      on_training_start, no_weight_decay; load_training_state where it is resumed
    in every step          penalty, backward, before_step, the optimiser's step, after_step
    in place of steps      fit_closed_form, where `training_free`
    saved and loaded       training_state, compact_state, expand_state
    reported               ranks, unused_options
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict
from torch import Tensor, nn

from fsseg.config.base import StrictModel
from fsseg.config.recipes import DecoderChoice, Family

# Features (B, features, D, H, W), and target and validity (B, structures, D, H, W) bool.
LabelledFeatures = tuple[Tensor, Tensor, Tensor]


class MethodOptions(StrictModel):
    """Options of a method; a method without options uses this class itself.

    What an option means is said once, in a docstring below it or by `Field(description=...)`: `fsseg methods NAME` and
    the documents show it from there.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)


class Method:
    """One adaptation method.

    Class attributes:
        decoder_choices: what `--decoder` may be; the first is the default.
        uses_pretrained: starts from the pretrained weights and head rows; otherwise from a newly initialised network.
        reads_features_only: trains nothing in front of the last decoder features, so these can be computed once.
        training_free: the head is set by `fit_closed_form` from these features, and no step is taken.
        family: what the method trains itself; a recipe names a learning rate per family.
        published_rate: learning rate of published recipes with a frozen decoder; None takes that of the family.

    Attributes (of the class, or properties that depend on the options):
        identity_at_start: the adapted network equals the pretrained one before the first step.
        not_merged_because: empty when all changes lie in weights, so that the result is a plain network; else why not.
    """

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    decoder_choices: ClassVar[tuple[DecoderChoice, ...]] = ("frozen", "tuned")
    uses_pretrained: ClassVar[bool] = True
    reads_features_only: ClassVar[bool] = False
    training_free: ClassVar[bool] = False
    family: ClassVar[Family]
    published_rate: ClassVar[float | None] = None
    identity_at_start: bool = True
    not_merged_because: str = ""

    def __init__(self, options: MethodOptions) -> None:
        self.options = options

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Return why the method is not defined, or would be dead, on `network`, and what to use; "" if it is fine.

        Args:
            network: the pretrained network, head already replaced.
            trained_whole: pretrained parameters that are trained anyway (a tuned decoder, the head).
        """
        return ""

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Return what the user should know about the method on this network, such as onto what it collapses."""
        return []

    def unused_options(self, network: nn.Module) -> list[str]:
        """Return the options that were given another value than their default and do nothing on an adapted network."""
        return []

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Insert new parameters in place; return the names of the changed layers, for the report."""
        return []

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield the pretrained parameters that the method trains itself.

        A parameter of a tuned decoder that is yielded here takes the method's learning rate, not the decoder's.
        """
        return iter(())

    def no_weight_decay(self, network: nn.Module) -> Iterator[nn.Parameter]:
        """Yield the trained parameters on which weight decay must not act."""
        return iter(())

    def fit_closed_form(
        self, head: nn.Conv3d, crops: Callable[[], Iterator[LabelledFeatures]], structures: Sequence[str]
    ) -> None:
        """Set the head from labelled features; called in place of a training where `training_free`.

        Args:
            head: the full-resolution head.
            crops: gives the crops of the pool, once through; may be called again.
            structures: names of the head's channels, for messages.

        Raises:
            FssegError: the crops do not show what the method needs.
        """
        raise NotImplementedError

    def on_training_start(self, network: nn.Module, least_steps: int) -> None:
        """Prepare for a training that cannot end before `least_steps` steps; called once before the first."""

    def penalty(self, network: nn.Module) -> Tensor | None:
        """Return a differentiable term to add to the loss, or None."""
        return None

    def before_step(self, network: nn.Module) -> None:
        """Change gradients after the backward pass and before the optimiser's step (not when that will be skipped)."""

    def after_step(self, network: nn.Module, learning_rate: float) -> None:
        """Change parameters after an optimiser step that was taken (not called when the gradient scaler skips one)."""

    def training_state(self, network: nn.Module) -> dict[str, Any]:
        """Return what a training that is resumed later needs besides the trained tensors; plain values and tensors."""
        return {}

    def load_training_state(self, network: nn.Module, state: dict[str, Any]) -> None:
        """Resume from a `training_state`; called after `on_training_start`."""

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return the effective rank of every layer that has a low-rank update, by layer name."""
        return {}

    def compact_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the trained tensors as they are saved, without what has become zero."""
        return state

    def expand_state(self, state: dict[str, Tensor], full: dict[str, Tensor]) -> dict[str, Tensor]:
        """Undo `compact_state`: return `state` with the shapes of `full`, the tensors of a new adapted network."""
        return state
