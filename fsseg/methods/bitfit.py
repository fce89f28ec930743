"""BitFit: bias terms only."""

from collections.abc import Iterator

from torch import nn

from fsseg.methods import contract
from fsseg.methods.biases import biases_without_effect, key_bias_notes, layer_biases, norm_parameters
from fsseg.methods.targets import TargetOptions, targeted_modules, why_nothing

_TABLE = "relative_position_bias_table"
_TOKEN_LAYERS = (".attn.", ".mlp.")


class BitFitOptions(TargetOptions):
    """Options of BitFit."""

    norms: bool = True
    """Train the biases of normalisations too, as the paper does."""
    outside_blocks: bool = True
    """Train the biases of layers outside of attention and MLP too (convolutions)."""
    position_tables: bool = False
    """Train the relative-position tables of windowed attention, which are no biases but are called so; FSEFT trains
    them, and they are 94 % of its "bias" parameters.
    """


class BitFit(contract.Method):
    """Train b of every W x + b (Ben Zaken et al., ACL 2022), but for those that a normalisation takes out again.

    On nnU-Net's U-Nets every convolution feeds an instance normalisation, which makes its bias dead; what lives there
    are the biases of the norms and of the transposed convolutions. Preset `fseft`: the biases of attention and MLP in
    the Swin encoder with the relative-position tables, without those of the norms.
    """

    Options = BitFitOptions
    options: BitFitOptions
    family = "selective"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a part of a network without a bias that lives and that the options leave in."""
        otherwise = (
            "no bias there has an effect and is of the kinds that the options name: others feed a normalisation, or do"
            " not exist.\n  Use affine or lora."
        )
        return why_nothing(lambda whole: self._selected(network, whole), trained_whole, otherwise)

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say which biases are left out, and onto what the method collapses."""
        notes = []
        left_out = biases_without_effect(network, self.options.targets, trained_whole, norms=self.options.norms)
        if left_out:
            notes.append(f"{left_out} biases feed a normalisation, which takes them out again; they are not trained.")
        names = [name for name, _ in self._selected(network, trained_whole)]
        norms = {name for name, _ in norm_parameters(network, self.options.targets, trained_whole, which=("bias",))}
        if set(names) == norms:
            notes.append("Only biases of norms are left: half of what affine trains.")
        return [*notes, *key_bias_notes(network, names)]

    def unused_options(self, network: nn.Module) -> list[str]:
        """Return the option for relative-position tables where there is none to train."""
        tables = any(name.endswith(f".{_TABLE}") and p.requires_grad for name, p in network.named_parameters())
        return ["position_tables"] if self.options.position_tables and not tables else []

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield the biases."""
        return (parameter for _, parameter in self._selected(network, trained_whole))

    def _selected(
        self, network: nn.Module, trained_whole: frozenset[nn.Parameter]
    ) -> Iterator[tuple[str, nn.Parameter]]:
        targets = self.options.targets
        for name, bias in layer_biases(network, targets, trained_whole, norms=self.options.norms):
            if self.options.outside_blocks or any(part in name for part in _TOKEN_LAYERS):
                yield name, bias
        if self.options.norms:
            yield from norm_parameters(network, targets, trained_whole, which=("bias",))
        if self.options.position_tables:
            for name, module in targeted_modules(network, targets, trained_whole):
                if hasattr(module, _TABLE):
                    yield f"{name}.{_TABLE}", getattr(module, _TABLE)
