"""The low-rank update of one layer: what it computes, where it starts, how it is merged."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from layers import LAYER_CASES, eighths, layer_input
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.methods.low_rank import LowRankUpdate


def adapted_layer(name: str, rank: int = 2) -> tuple[nn.Module, nn.Module, LowRankUpdate]:
    """Return a plain layer, the same layer with an update, and the update; float64, values in eighths."""
    torch.manual_seed(0)
    plain = LAYER_CASES[name]().double()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(eighths(*parameter.shape))
    layer = deepcopy(plain)
    update = LowRankUpdate(layer, rank=rank, scale=0.5)
    parametrize.register_parametrization(layer, "weight", update)
    with torch.no_grad():
        update.left.copy_(eighths(*update.left.shape))
        update.right.copy_(eighths(*update.right.shape))
    return plain, layer, update


def two_layers(plain: nn.Module, update: LowRankUpdate, x: Tensor) -> Tensor:
    """Compute the update as two layers one after the other, the first to `rank` channels, group by group."""
    left, right = update.left, update.right
    if isinstance(plain, nn.Linear):
        return x @ right.T @ left.T
    assert isinstance(plain, nn.Conv3d | nn.ConvTranspose3d)
    settings: dict[str, Any] = {k: getattr(plain, k) for k in ("stride", "padding", "dilation")}
    rows = left.chunk(plain.groups)
    outputs = []
    for group, inputs in enumerate(x.chunk(plain.groups, dim=1)):
        second = right.view(-1, *plain.weight.shape[1:])
        matrix = rows[group]
        if isinstance(plain, nn.ConvTranspose3d):
            narrow = nn.functional.conv3d(inputs, matrix.T[..., None, None, None])
            outputs.append(nn.functional.conv_transpose3d(narrow, second, **settings))
        else:
            narrow = nn.functional.conv3d(inputs, second, **settings)
            outputs.append(nn.functional.conv3d(narrow, matrix[..., None, None, None]))
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("name", LAYER_CASES)
def test_update_in_the_weight_equals_two_layers_beside_it(name: str) -> None:
    plain, layer, update = adapted_layer(name)
    x = layer_input(name)
    expected = plain(x) + update.scale * two_layers(plain, update, x)
    assert (expected - plain(x)).abs().max() > 0.1
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LAYER_CASES)
def test_merged_weight_in_a_plain_layer_computes_the_same(name: str) -> None:
    plain, layer, _ = adapted_layer(name)
    x = layer_input(name)
    expected = layer(x)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias})
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYER_CASES)
def test_update_starts_at_zero_with_one_live_factor(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYER_CASES[name]()
    transposed = isinstance(layer, nn.ConvTranspose3d)
    update = LowRankUpdate(layer, rank=2)
    random, zero = (update.left, update.right) if transposed else (update.right, update.left)
    assert torch.equal(update(layer.weight), layer.weight)
    assert not zero.any()
    assert random.abs().max() <= random.shape[0 if transposed else 1] ** -0.5
    assert random.any()


@pytest.mark.parametrize("name", LAYER_CASES)
def test_weight_under_autocast_is_the_merged_weight(name: str) -> None:
    """Formed in bfloat16, the weight that is trained would not be the one that is merged."""
    _, layer, update = adapted_layer(name)
    layer.float()
    for factor in (update.left, update.right):
        nn.init.normal_(factor)  # not exact in bfloat16, unlike eighths
    plain_weight = layer.parametrizations.weight.original  # type: ignore[union-attr]
    expected = plain_weight + update.scale * (update.left @ update.right).view_as(plain_weight)
    assert torch.equal(layer.weight, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, expected)


def all_ranks(layer: nn.Module) -> Iterator[int]:
    return iter(range(1, min(layer.weight.shape[0], layer.weight[0].numel()) + 1))  # type: ignore[index, arg-type]


@pytest.mark.parametrize("name", ["linear", "conv 1x1x1", "transposed"])
def test_rank_of_the_update_is_at_most_r(name: str) -> None:
    for rank in all_ranks(LAYER_CASES[name]()):
        plain, layer, _ = adapted_layer(name, rank)
        difference = (layer.weight - plain.weight).flatten(1)  # type: ignore[operator]
        assert torch.linalg.matrix_rank(difference) == rank
