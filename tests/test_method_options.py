"""Options of the methods and the decoder choice: each changes something, and wrong ones are refused."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from method_cases import CASES, FITTING_OPTIONS, Case, logits_of, randomise, train
from parameter_counts import low_rank, updated_layers
from tiny import ARCHITECTURES, LAYERS, STRUCTURES, tiny_network
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import METHODS, create_method, method_class
from fsseg.models.networks import build_network
from fsseg.models.parts import parts_of

# Another value for every option of every method. A new option gets a line here.
OTHER_VALUES: dict[tuple[str, str], Any] = {
    **{
        (method, option): value
        for method in ("lora", "lora_tucker", "dora", "adalora", "arena")
        for option, value in {"rank": 2, "targets": "encoder", "layers": "linear", "projections": "joint"}.items()
    },
    **{(method, "targets"): "encoder" for method in ("bitfit", "affine", "tinytl", "ssf", "adaptformer")},
    **{(method, "targets"): "all" for method in ("residual_adapter", "conv_adapter", "compacter")},
    ("lora", "alpha"): 8.0,
    ("dora", "targets"): "decoder",
    ("adalora", "target_rank"): 1,
    ("adalora", "budget_start"): 3,
    ("adalora", "budget_end"): 2,
    ("adalora", "interval"): 3,
    ("adalora", "orthogonality"): 5.0,
    ("adalora", "beta"): 0.1,
    ("arena", "sparsity"): 0.9,
    ("arena", "gate_range"): 0.1,
    ("l2_sp", "alpha"): 1.0,
    ("l2_sp", "beta"): 1.0,
    ("bitfit", "norms"): False,
    ("bitfit", "outside_blocks"): False,
    ("bitfit", "position_tables"): True,
    ("adaptformer", "bottleneck"): 8,
    ("adaptformer", "scale"): 0.5,
    ("residual_adapter", "start"): "zero",
    ("conv_adapter", "reduction"): 2,
    ("compacter", "bottleneck"): 8,
    ("compacter", "products"): 2,
    ("spatial_adapter", "kernel_size"): 1,
    ("prototype", "similarity"): "cosine",
}


# Options with which four steps are enough to see what an option does.
FAST_OPTIONS: dict[str, dict[str, Any]] = {"adalora": {"budget_start": 1, "budget_end": 4, "interval": 2}}


OPTIONS = [(method, field) for method in METHODS for field in method_class(method).Options.model_fields]


def first_case(method: str) -> Case:
    return next(case for case in CASES if case.method == method)


@pytest.mark.parametrize(("method", "option"), OPTIONS)
def test_every_option_changes_something(method: str, option: str) -> None:
    """What is trained and how it starts, or with equal tensors what is computed or what a step does."""
    assert (method, option) in OTHER_VALUES, f"give another value of {method}'s option {option} in OTHER_VALUES"
    case, base = _case_for(method, option), FAST_OPTIONS.get(method, {})
    default = case.adapt(**base)
    other = case.adapt(**{**base, option: OTHER_VALUES[method, option]})
    if _differ(default.state(), other.state()):
        return
    randomise(default)
    other.load_state(default.state())
    if not torch.equal(logits_of(default.network), logits_of(other.network)):
        return
    train(default, steps=4)
    train(other, steps=4)
    assert not torch.equal(logits_of(default.network), logits_of(other.network))


def _case_for(method: str, option: str) -> Case:
    on_attention = option in {"layers", "projections", "position_tables", "outside_blocks"}
    return Case(method, "frozen", "swin") if on_attention else first_case(method)


def _differ(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return set(first) != set(second) or any(
        first[name].shape != second[name].shape or not torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize("method", ["lora", "lora_tucker", "dora", "adalora", "arena"])
def test_layers_that_a_norm_undoes_are_named(method: str) -> None:
    adapted = Case(method, "frozen", "swin").adapt()
    assert any("encoder1.layer.conv3.conv only scales one channel" in note for note in adapted.notes)
    assert not any("only scales" in note for note in Case(method, "frozen", "plain").adapt().notes)


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_lora_rank_decides_the_count(network: str, rank: int) -> None:
    case = Case("lora", "frozen", network)
    report = case.adapt(rank=rank).report()
    assert report.trainable == low_rank(case, rank)
    assert report.layers == len(updated_layers(case))


@pytest.mark.parametrize("network", ARCHITECTURES)
@pytest.mark.parametrize("targets", ["encoder", "decoder"])
def test_lora_targets_decide_the_layers(network: str, targets: str) -> None:
    case = Case("lora", "frozen", network)
    adapted = case.adapt(targets=targets)
    assert adapted.report().layers == len(updated_layers(case, targets))
    assert adapted.report().trainable == low_rank(case, targets=targets)
    own = [name for name in adapted.trainable() if "parametrizations" in name]
    assert own
    parts = parts_of(adapted.network)
    inside = {id(p) for m in ([parts.encoder] if targets == "encoder" else parts.decoder) for p in m.parameters()}
    assert all(id(parameter) in inside for name, parameter in adapted.trainable().items() if name in own)


def test_lora_with_a_tuned_decoder_changes_the_encoder_only() -> None:
    for targets in ("all", "encoder"):
        adapted = Case("lora", "tuned", "plain").adapt(targets=targets)
        inserted = [name for name in adapted.trainable() if "parametrizations" in name]
        assert len(inserted) == 2 * 6
        assert all(name.startswith("encoder.") for name in inserted)


def test_lora_alpha_over_rank_scales_the_update() -> None:
    case = Case("lora", "frozen", "plain")
    single, double = case.adapt(rank=2, alpha=2.0), case.adapt(rank=2, alpha=4.0)
    randomise(single)
    double.load_state(single.state())
    weights = [a.network.encoder.stages[1][0].convs[0].conv.weight for a in (single, double)]  # type: ignore[index, union-attr]
    base = tiny_network("plain").encoder.stages[1][0].convs[0].conv.weight  # type: ignore[index, union-attr]
    assert (weights[0] - base).abs().max() > 0.01
    torch.testing.assert_close(weights[1] - base, 2 * (weights[0] - base), rtol=1e-5, atol=1e-6)


def test_lora_alpha_defaults_to_a_scale_of_one_at_every_rank() -> None:
    case = Case("lora", "frozen", "plain")
    default, explicit = case.adapt(rank=2), case.adapt(rank=2, alpha=2.0)
    randomise(default)
    explicit.load_state(default.state())
    assert torch.equal(logits_of(default.network), logits_of(explicit.network))


def test_lora_starts_differ_between_seeds() -> None:
    case = Case("lora", "frozen", "plain")
    first, second = case.adapt(seed=1).state(), case.adapt(seed=2).state()
    random = [name for name in first if name.endswith((".left", ".right")) and first[name].any()]
    assert len(random) == len(LAYERS["plain"])
    assert not any(torch.equal(first[name], second[name]) for name in random)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lorra", {}, "Unknown method 'lorra'. Did you mean 'lora'"),
        ("lora", {"rang": 4}, "unknown key 'rang'; did you mean 'rank'"),
        ("lora", {"rank": 0}, "rank: .*got 0"),
        ("lora", {"rank": "many"}, "rank: .*got 'many'"),
        ("lora", {"alpha": 0.0}, "alpha: .*got 0.0"),
        ("lora", {"targets": "head"}, "targets: .*got 'head'"),
        ("lora", {"rank": 0, "rang": 4}, "2 errors in the options of method 'lora'"),
        ("full", {"rank": 4}, "unknown key 'rank'"),
        ("adalora", {"rank": 4, "target_rank": 5}, "target_rank=5 is above rank=4"),
        ("adalora", {"budget_start": 9, "budget_end": 9}, "budget_end=9 is not after budget_start=9"),
    ],
)
def test_wrong_method_or_option_is_refused(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_method(method, options)


def test_rank_that_a_layer_does_not_allow_names_the_layer_and_the_largest_rank() -> None:
    # The smallest layers have four output channels. The first of all reads the image: it gets what it allows.
    with pytest.raises(UsageError, match=r"encoder\.stages\.0\.0\.convs\.1\.conv \(at most 4\)") as caught:
        Case("lora", "frozen", "plain").adapt(rank=5)
    assert "allowed here: 1 to 4" in str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_decoder_choice_that_a_method_does_not_offer_is_refused(method: str) -> None:
    offered = method_class(method).decoder_choices
    refused: list[Any] = [choice for choice in ("frozen", "tuned", "half") if choice not in offered]
    for choice in refused:
        with pytest.raises(UsageError, match=f"--decoder {choice}"):
            AdaptedNetwork(tiny_network("plain"), create_method(method), choice)


@pytest.mark.parametrize("method", METHODS)
def test_default_decoder_choice_is_the_first(method: str) -> None:
    case = first_case(method)
    options = FITTING_OPTIONS.get(method)
    adapted = AdaptedNetwork(tiny_network(case.network), create_method(method, options))
    assert adapted.decoder == method_class(method).decoder_choices[0]


def test_lora_on_a_decoder_that_is_trained_whole_is_refused() -> None:
    with pytest.raises(UsageError, match="finds no layer to adapt"):
        Case("lora", "tuned", "plain").adapt(targets="decoder")


@pytest.mark.parametrize("method", METHODS)
def test_a_network_of_an_unknown_class_is_refused(method: str) -> None:
    with pytest.raises(UsageError, match="Sequential"):
        AdaptedNetwork(nn.Sequential(nn.Conv3d(1, 1, 1)), create_method(method))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUnet"},
            "PlainConvUNet'",
        ),
        ({"network_class_name": "os.system"}, "Unknown network class"),
        ({"arch_kwargs": {"conv_op": "os.system"}}, "os.system"),
        ({"arch_kwargs": {"conv_op": "torch.nn.functional.conv3d"}}, "allowed: layers of torch.nn"),
        ({"arch_kwargs": {"conv_op": "torch.nn.Conv4d"}}, "does not exist"),
        ({"arch_kwargs": {"n_conv_per_stage": [2]}}, "do not fit PlainConvUNet"),
        ({"arch_kwargs": {"wings": 2}}, "do not fit PlainConvUNet"),
    ],
)
def test_architecture_block_that_is_not_allowed_is_refused(change: dict[str, Any], message: str) -> None:
    block = deepcopy(ARCHITECTURES["plain"])
    block["arch_kwargs"].update(change.get("arch_kwargs", {}))
    block["network_class_name"] = change.get("network_class_name", block["network_class_name"])
    with pytest.raises(UsageError, match=message):
        build_network(block, input_channels=1, output_channels=STRUCTURES, deep_supervision=False)
