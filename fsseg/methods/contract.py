"""The contract of every adaptation method.

A method says what it inserts into a network, which pretrained parameters it trains, and what happens around a step.
Freezing, the segmentation head, decoder tuning, saving, merging and reporting are the same for all methods and live
in `adapted_network.py`. A method never looks at another method, and nothing outside looks at a method's name.

Two ways of inserting survive nnU-Net's aliased modules, deepcopy and stock key names: a parametrization of a weight,
which also merges; and a submodule registered on the layer it belongs to, called by a forward hook that takes it from
the module it is given. Neither puts a module in the place of another.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor, nn

from fsseg.config.base import StrictModel

DecoderChoice = Literal["frozen", "tuned"]
Family = Literal["whole_network", "scratch", "decoder", "black_box", "low_rank"]


class MethodOptions(StrictModel):
    """Options of a method; a method without options uses this class itself."""


class Method:
    """One adaptation method.

    Class attributes:
        decoder_choices: what `--decoder` may be; the first is the default.
        identity_at_start: the adapted network equals the pretrained one before the first step.
        uses_pretrained: starts from the pretrained weights and head rows; otherwise from a newly initialised network.
        not_merged_because: empty when all changes lie in weights, so that the result is a plain network; else why not.
        reads_features_only: trains nothing in front of the last decoder features, so these can be computed once.
        family: decides the learning rate; a recipe names one per family.
    """

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    decoder_choices: ClassVar[tuple[DecoderChoice, ...]] = ("frozen", "tuned")
    identity_at_start: ClassVar[bool] = True
    uses_pretrained: ClassVar[bool] = True
    not_merged_because: ClassVar[str] = ""
    reads_features_only: ClassVar[bool] = False
    family: ClassVar[Family]

    def __init__(self, options: MethodOptions) -> None:
        self.options = options

    def undefined(self, network: nn.Module) -> str:
        """Return why the method is not defined, or would be dead, on `network`, and what to use; "" if it is fine."""
        return ""

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Insert new parameters in place (parametrizations, wrapped modules).

        Args:
            network: the pretrained network, head already replaced.
            trained_whole: pretrained parameters that will be trained anyway (a tuned decoder, the head).

        Returns:
            Names of the layers that were changed, for the report.
        """
        return []

    def selected(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield the pretrained parameters that the method trains itself.

        A parameter of a tuned decoder that is yielded here takes the method's learning rate, not the decoder's.
        """
        return iter(())

    def start(self, network: nn.Module, max_steps: int) -> None:
        """Prepare for a training of at most `max_steps` steps; called once before the first."""

    def penalty(self, network: nn.Module) -> Tensor | None:
        """Return a differentiable term to add to the loss, or None."""
        return None

    def before_step(self, network: nn.Module) -> None:
        """Change gradients after the backward pass and before the optimiser's step."""

    def after_step(self, network: nn.Module, learning_rate: float) -> None:
        """Change parameters after an optimiser step that was taken (not called when the gradient scaler skips one)."""
