"""Low-rank updates with a gate on every rank-one term: the base of methods whose rank shrinks."""

import torch
from torch import Tensor, nn

from fsseg.methods import contract
from fsseg.methods.low_rank import LowRankOptions, LowRankUpdate, updates_of

_INDEX = "live"  # in a saved file: which gates are not zero


class GatedUpdate(LowRankUpdate):
    """Parametrization W -> W + sum_k gate_k left_k right_k; a gate of zero removes its term.

    Attributes:
        gate: one value a term, (blocks * r,); term b * r + j has column j of block b of `left`, and row b * r + j of
            `right`.
    """

    def __init__(self, layer: nn.Module, *, rank: int, blocks: int = 1) -> None:
        super().__init__(layer, rank=rank, blocks=blocks)
        self.gate = nn.Parameter(self.left.new_zeros(blocks * rank))

    def gates(self) -> Tensor:
        """Return the gates."""
        return self.gate


class GatedMethod(contract.Method):
    """A low-rank method whose gates become zero: the rank of a layer is the number of its other gates."""

    options: LowRankOptions
    family = "low_rank"

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return how many gates of each layer are not zero."""
        return {name: int(update.gate.count_nonzero()) for name, update in updates_of(network, GatedUpdate).items()}

    def compacted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cut out the terms whose gate is zero; `left` gets one row a term, as `right` has."""
        result = dict(state)
        for prefix in _prefixes(state):
            gate, left, right = (state[prefix + part] for part in ("gate", "left", "right"))
            live = gate.nonzero()[:, 0]
            blocks = gate.numel() // left.shape[1]
            terms = _transposed_blocks(left, blocks)
            result |= {prefix + "gate": gate[live], prefix + "left": terms[live], prefix + "right": right[live]}
            result[prefix + _INDEX] = live
        return result

    def expanded(self, state: dict[str, Tensor], full: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put terms back in their places; those that were cut out are zero."""
        result = {name: tensor for name, tensor in state.items() if not name.endswith("." + _INDEX)}
        for prefix in _prefixes(full):
            if prefix + _INDEX not in state:
                continue
            live, left = state[prefix + _INDEX], full[prefix + "left"]
            blocks = full[prefix + "gate"].numel() // left.shape[1]
            terms = left.new_zeros(full[prefix + "gate"].numel(), left.shape[0] // blocks)
            terms[live] = state[prefix + "left"].to(terms)
            result[prefix + "left"] = _transposed_blocks(terms, blocks)
            for part in ("gate", "right"):
                result[prefix + part] = torch.zeros_like(full[prefix + part])
                result[prefix + part][live] = state[prefix + part].to(left)
        return result


def _prefixes(state: dict[str, Tensor]) -> list[str]:
    return [name.removesuffix("gate") for name in state if name.endswith(".gate")]


def _transposed_blocks(matrix: Tensor, blocks: int) -> Tensor:
    """Transpose each block of rows: (rows, r) to one row a term, (blocks * r, rows / blocks), and back."""
    return torch.cat([block.T for block in matrix.chunk(blocks)])
