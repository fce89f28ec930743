"""Low-rank updates with a gate on every rank-one term: the base of methods whose rank shrinks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fsseg.config.errors import FssegError
from fsseg.methods.low_rank import LowRankMethod, LowRankUpdate, updates_of

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


class GatedMethod(LowRankMethod):
    """A low-rank method whose gates become zero: the rank of a layer is the number of its other gates."""

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return how many gates of each layer are not zero."""
        return {name: int(update.gate.count_nonzero()) for name, update in updates_of(network, GatedUpdate).items()}

    def compact_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
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

    def expand_state(self, state: dict[str, Tensor], full: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put terms back in their places; those that were cut out are zero."""
        result = dict(state)
        for prefix in _prefixes(full):
            if prefix + _INDEX not in state:
                continue
            gate, left, right = (full[prefix + part] for part in ("gate", "left", "right"))
            blocks = gate.numel() // left.shape[1]
            shapes = {"gate": gate.shape, "left": (gate.numel(), left.shape[0] // blocks), "right": right.shape}
            live = _required_index(prefix, result.pop(prefix + _INDEX), state, shapes)
            for part, shape in shapes.items():
                result[prefix + part] = state[prefix + part].new_zeros(shape)
                result[prefix + part][live] = state[prefix + part]
            result[prefix + "left"] = _transposed_blocks(result[prefix + "left"], blocks)
        return result


def _prefixes(state: dict[str, Tensor]) -> list[str]:
    return [name.removesuffix("gate") for name in state if name.endswith(".gate")]


def _required_index(prefix: str, live: Tensor, state: dict[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> Tensor:
    """Return the places of the saved terms; raise `FssegError` unless each has one, and a place of its own."""
    terms = shapes["gate"][0]
    is_index = live.dtype == torch.int64 and live.ndim == 1
    if not is_index or not set(live.tolist()) <= set(range(terms)) or len(live.unique()) < len(live):
        raise FssegError(
            f"The adapter does not fit its network: {prefix}{_INDEX} must list different terms, 0 to {terms - 1},"
            f" as int64; got {live.tolist()} as {live.dtype}."
        )
    for part, shape in shapes.items():
        expected, got = (len(live), *shape[1:]), tuple(state[prefix + part].shape)
        if got != expected:  # an assignment by index would repeat a single row
            raise FssegError(f"The adapter does not fit its network: {prefix}{part} is {got}, expected {expected}.")
    return live


def _transposed_blocks(matrix: Tensor, blocks: int) -> Tensor:
    """Transpose each block of rows: (rows, r) to one row a term, (blocks * r, rows / blocks), and back."""
    return torch.cat([block.T for block in matrix.chunk(blocks)])
