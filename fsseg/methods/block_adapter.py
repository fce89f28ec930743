"""Methods that put adapters beside or behind the blocks of a network: what AdaptFormer and Compacter share."""

from torch import nn

from fsseg.methods.contract import Method
from fsseg.methods.targets import TargetOptions, targeted_modules, why_nothing
from fsseg.models.blocks import Block, blocks_of
from fsseg.models.tracing import by_own_statistics, normalised_outputs


class BlockAdapterMethod(Method):
    """A method that adds an adapter to every block of the targeted part; its last layer has a bias."""

    options: TargetOptions
    family = "adapter"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a part of a network without blocks."""
        otherwise = f"there is no block in targets={self.options.targets}.\n  Use targets=encoder."
        return why_nothing(lambda whole: self.blocks(network, whole), trained_whole, otherwise)

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say beside which blocks an adapter's last bias has no effect, because a normalisation takes it out again."""
        norms = normalised_outputs(network)
        names = [
            block.name
            for block in self.blocks(network, trained_whole)
            if block.module in norms and by_own_statistics(norms[block.module])
        ]
        if not names:
            return []
        return [
            f"The last bias of the adapter at {', '.join(names)} has no effect: a normalisation takes it out again."
        ]

    def blocks(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[Block]:
        """Return the blocks of the targeted part that are not trained whole."""
        inside = {module for _, module in targeted_modules(network, self.options.targets, trained_whole)}
        return [block for block in blocks_of(network) if inside.issuperset(block.module.modules())]
