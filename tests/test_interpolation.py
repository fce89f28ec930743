"""Weights between a base and its adaptation, and beyond: statistics of batch norms stay what they are."""

import pytest
import torch
from tiny import image, tiny_network
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.methods.interpolation import interpolated_state_dict


@pytest.fixture
def base() -> nn.Module:
    return tiny_network("plain_batch_norm")


def adapted(base: nn.Module, factor: float) -> dict[str, Tensor]:
    """Return the weights of an adaptation whose running variances are the base's times a factor."""
    return {
        key: tensor * factor if key.endswith("running_var") else tensor.clone()
        for key, tensor in base.state_dict().items()
    }


def test_a_scale_that_makes_a_variance_negative_is_refused_with_the_largest_that_does_not(base: nn.Module) -> None:
    message = r"--scale 1\.5 makes the variance of \d+ normalisation.*negative(.|\n)*allowed: 0 to 1\.33$"
    with pytest.raises(UsageError, match=message):
        interpolated_state_dict(base, adapted(base, 0.25), 1.5, [])
    base.load_state_dict(interpolated_state_dict(base, adapted(base, 0.25), 1.33, []))
    assert base(image()).isfinite().all()


@pytest.mark.parametrize(("factor", "scale"), [(0.2, 1.0), (0.2, 0.5), (0.0, 1.0), (3.0, 2.0)])
def test_other_scales_are_on_the_straight_line(base: nn.Module, factor: float, scale: float) -> None:
    result = interpolated_state_dict(base, adapted(base, factor), scale, [])
    for key, tensor in base.state_dict().items():
        expected = tensor * (1 + scale * (factor - 1)) if key.endswith("running_var") else tensor
        torch.testing.assert_close(result[key], expected)
    base.load_state_dict(result)
    assert base(image()).isfinite().all()
