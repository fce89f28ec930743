"""What every adaptation method must do, on every network and with every decoder choice it is defined for."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from layers import LAYER_CASES, eighths, layer_input
from method_cases import (
    CASES,
    FITTING_OPTIONS,
    INSERTION_CASES,
    INSERTIONS,
    METHOD_CASES,
    REPRESENTATIVES,
    UNDEFINED,
    Case,
    is_near,
    logits_of,
    loss_of,
    parametrized,
    randomise,
    train,
    trained_apart_from_rounding,
)
from safetensors.torch import load_file, save_file
from tiny import (
    ARCHITECTURES,
    BLOCKS,
    LAYERS,
    STRUCTURES,
    BlockOf,
    Layer,
    head_parameters,
    tiny_network,
)
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import Rates
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import Method
from fsseg.methods.low_rank import LowRankUpdate
from fsseg.methods.registry import METHODS, create_method, method_class, method_names
from fsseg.models.networks import build_network
from fsseg.models.parts import parts_of
from fsseg.training.placement import place


def without_swin(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.network != "swin"]


def is_first_on_plain(case: Case) -> bool:
    return case.network == "plain" and case.decoder == method_class(case.method).decoder_choices[0]


def gives_what_others_do_not(case: Case) -> bool:
    """Near cases, and one of each kind of insertion on the attention network, where attention is adapted."""
    return is_near(case) or (case.network == "swin" and case.method in REPRESENTATIVES)


every_count = parametrized(CASES, near=lambda case: is_near(case) or case.network == "swin")  # the closed forms differ
every_case = parametrized(CASES, near=gives_what_others_do_not)
every_method = parametrized(METHOD_CASES)
every_method_on_convolutions = parametrized(without_swin(METHOD_CASES))
every_insertion = parametrized(INSERTION_CASES, near=is_first_on_plain)
every_insertion_on_convolutions = parametrized(without_swin(INSERTION_CASES), near=is_first_on_plain)


def assert_equal_states(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


# What every method does


@every_case
def test_adapted_network_starts_as_the_base(case: Case) -> None:
    difference = (logits_of(case.adapt().network) - logits_of(tiny_network(case.network))).abs().max().item()
    if create_method(case.method).identity_at_start:
        assert difference <= 1e-6
    else:
        assert difference > 1e-3, "a method that starts as its base should declare it"


@every_method
def test_moving_the_trained_tensors_moves_the_logits(case: Case) -> None:
    adapted = case.adapt()
    before = logits_of(adapted.network)
    randomise(adapted)
    after = logits_of(adapted.network)
    assert torch.isfinite(after).all()
    assert (after - before).abs().max() >= 0.1


@every_case
def test_every_trained_tensor_gets_a_gradient(case: Case) -> None:
    """A head bias has a gradient of about one here; rounding error, as on a dead bias, is about 1e-8."""
    adapted = case.adapt()
    randomise(adapted)
    adapted.train_mode()
    loss_of(adapted).backward()
    adapted.method.before_step(adapted.network)
    for name, parameter in trained_apart_from_rounding(adapted).items():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.square().mean().sqrt() > 1e-5, name


@every_method_on_convolutions
def test_no_inserted_tensor_is_taken_out_by_a_norm(case: Case) -> None:
    """The exemption above covers nnU-Net's own biases only, never something a method adds."""
    base_names = {name for name, _ in tiny_network(case.network).named_parameters()}
    adapted = case.adapt()
    exempt = set(adapted.trainable()) - set(trained_apart_from_rounding(adapted))
    assert exempt <= base_names


@every_insertion_on_convolutions
def test_unused_heads_are_not_trained(case: Case) -> None:
    adapted = case.adapt()
    *unused, used = parts_of(adapted.network).heads
    assert unused
    assert not any(p.requires_grad for head in unused for p in head.parameters())
    assert all(p.requires_grad for p in used.parameters())


@every_method
def test_training_changes_what_is_trained_and_nothing_else(case: Case) -> None:
    adapted = case.adapt()
    before = deepcopy(adapted.network.state_dict())
    statistics = {name for name in adapted.state() if name not in adapted.trainable()}
    trained = trained_apart_from_rounding(adapted)
    names = {id(p): name for name, p in adapted.network.named_parameters()}
    train(adapted)
    for name in trained:
        assert not torch.equal(adapted.network.state_dict()[name], before[name]), f"{name} did not change"
    for key, tensor in adapted.network.state_dict(keep_vars=True).items():
        first_name = names.get(id(tensor), key)
        if not tensor.requires_grad and not _is_alias_of(first_name, statistics, adapted.network):
            assert torch.equal(tensor, before[key]), f"{key} changed"


def _is_alias_of(key: str, names: set[str], network: nn.Module) -> bool:
    """Return whether a state_dict key is another name of one of the buffers `names`."""
    state = network.state_dict(keep_vars=True)
    return any(state[key] is state[name] for name in names)


@every_method_on_convolutions
def test_a_norm_that_is_not_trained_keeps_its_statistics_in_training_mode(case: Case) -> None:
    adapted = case.adapt()
    adapted.train_mode()
    assert adapted.network.training
    for name, module in adapted.network.named_modules():
        if isinstance(module, nn.BatchNorm3d | nn.InstanceNorm3d):
            assert module.training == any(p.requires_grad for p in module.parameters()), name


@every_count
def test_report_counts_what_is_trained(case: Case) -> None:
    adapted = case.adapt()
    report = adapted.report()
    assert report.head == head_parameters(case.network)
    assert report.trainable + report.head == sum(p.numel() for p in adapted.trainable().values())
    assert report.total == sum(p.numel() for p in {id(p): p for p in adapted.network.parameters()}.values())


@every_insertion_on_convolutions
def test_parameter_groups_hold_every_trained_tensor_once(case: Case) -> None:
    adapted = case.adapt()
    groups = adapted.parameter_groups(Rates(method=1.0, decoder=2.0, head=3.0))
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in adapted.trainable().values())
    head = {id(p) for p in parts_of(adapted.network).head.parameters(recurse=False)}
    assert {id(p) for group in groups if group["lr"] == 3.0 for p in group["params"]} == head


@every_method
def test_state_makes_a_fresh_adapted_network_compute_the_same(case: Case) -> None:
    adapted = case.adapt()
    randomise(adapted)
    train(adapted, steps=1)
    fresh = case.adapt(seed=99)
    fresh.load_state(adapted.state())
    assert torch.equal(logits_of(fresh.network), logits_of(adapted.network))


@every_insertion_on_convolutions
def test_state_survives_safetensors(case: Case, tmp_path: Path) -> None:
    adapted = case.adapt()
    randomise(adapted)
    save_file(adapted.state(), tmp_path / "adapter.safetensors")
    loaded = load_file(tmp_path / "adapter.safetensors")
    assert set(loaded) == set(adapted.state())
    fresh = case.adapt(seed=99)
    fresh.load_state(loaded)
    assert torch.equal(logits_of(fresh.network), logits_of(adapted.network))


@every_insertion_on_convolutions
def test_state_is_a_copy(case: Case) -> None:
    adapted = case.adapt()
    state = adapted.state()
    expected = deepcopy(state)
    randomise(adapted)
    assert_equal_states(state, expected)


@every_insertion_on_convolutions
def test_state_names_every_tensor_once_and_by_no_alias(case: Case) -> None:
    names = list(case.adapt().state())
    assert names
    assert len(names) == len(set(names))
    assert not [name for name in names if "decoder.encoder" in name or "all_modules" in name]


@every_insertion_on_convolutions
def test_state_that_does_not_fit_is_refused(case: Case) -> None:
    adapted = case.adapt()
    state = adapted.state()
    name = next(iter(state))
    missing = {key: tensor for key, tensor in state.items() if key != name}
    with pytest.raises(FssegError, match=f"missing {name}"):
        adapted.load_state(missing)
    with pytest.raises(FssegError, match=r"unexpected somewhere\.weight"):
        adapted.load_state({**state, "somewhere.weight": torch.zeros(1)})
    with pytest.raises(FssegError, match=f"{name}: shape .* expected"):
        adapted.load_state({**state, name: torch.zeros(1, 2, 3)})


@every_method
def test_merged_weights_are_a_plain_network_that_computes_the_same(case: Case) -> None:
    adapted = case.adapt()
    randomise(adapted)
    train(adapted, steps=1)
    if adapted.method.not_merged_because:
        with pytest.raises(UsageError, match="cannot be merged"):
            adapted.merged_state_dict()
        return
    before, before_logits = adapted.state(), logits_of(adapted.network)
    plain = tiny_network(case.network, seed=5)
    merged = adapted.merged_state_dict()
    assert list(merged) == list(plain.state_dict())
    tensors = {id(t) for t in plain.state_dict(keep_vars=True).values()}
    assert len({id(t) for t in merged.values()}) == len(tensors), "one tensor under several names is formed once"
    plain.load_state_dict(merged, strict=True)
    torch.testing.assert_close(logits_of(plain), before_logits, rtol=0, atol=1e-5)

    assert_equal_states(adapted.state(), before)
    assert torch.equal(logits_of(adapted.network), before_logits)
    train(adapted, steps=1)
    assert not torch.equal(logits_of(adapted.network), before_logits), "merging ended the training"
    torch.testing.assert_close(logits_of(plain), before_logits, rtol=0, atol=1e-5)


@every_insertion_on_convolutions
def test_a_deep_copy_computes_the_same_and_is_independent(case: Case) -> None:
    adapted = case.adapt()
    randomise(adapted)
    expected = logits_of(adapted.network)
    copy = deepcopy(adapted.network)
    assert torch.equal(logits_of(copy), expected)
    randomise(adapted, seed=8)
    assert torch.equal(logits_of(copy), expected)
    moved = logits_of(adapted.network)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    assert torch.equal(logits_of(adapted.network), moved)


@every_insertion_on_convolutions
def test_bfloat16_autocast_stays_near_float32(case: Case) -> None:
    """bfloat16 rounds to 2^-9 = 0.2 % at each of about 15 layers; norms over 8 voxels amplify it."""
    adapted = case.adapt()
    randomise(adapted)
    expected = logits_of(adapted.network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = logits_of(adapted.network)
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).square().mean().sqrt() <= 0.05 * expected.square().mean().sqrt()


@every_insertion
def test_the_layout_that_training_uses_changes_nothing(case: Case) -> None:
    adapted = case.adapt()
    randomise(adapted)
    expected = logits_of(adapted.network)
    place(adapted.network, torch.device("cpu"))
    torch.testing.assert_close(logits_of(adapted.network), expected, rtol=1e-4, atol=1e-4)
    train(adapted, steps=1)
    assert not torch.equal(logits_of(adapted.network), expected)


@every_method_on_convolutions
def test_the_seed_decides_the_start(case: Case) -> None:
    assert_equal_states(case.adapt(seed=3).state(), case.adapt(seed=3).state())


class NeverDefined(Method):
    """Stands for a method that no tiny network suits, so that the refusal is tested while all others are."""

    family = "decoder"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        return "it has no windows; use bitfit"


def test_a_method_that_is_not_defined_is_refused_with_its_reason() -> None:
    with pytest.raises(UsageError, match="NeverDefined is not defined on PlainConvUNet: it has no windows"):
        AdaptedNetwork(tiny_network("plain"), NeverDefined(NeverDefined.Options()))


@pytest.mark.parametrize(("case", "reason"), UNDEFINED.items())
def test_a_case_that_is_not_defined_is_refused_with_its_reason(case: Case, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        case.adapt()


def test_every_method_is_defined_on_some_network_here() -> None:
    assert {case.method for case in CASES} == set(method_names())


def test_every_method_has_its_insertion_in_the_table() -> None:
    assert sorted(name for methods in INSERTIONS.values() for name in methods) == sorted(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_inserts_what_the_table_says(method: str) -> None:
    expected = {
        "nothing": set(),
        "in weights": {"weight"},
        "in weights and biases, shared": {"weight", "bias", "shared"},
        "behind modules": {"behind"},
        "behind modules, shared": {"behind", "shared"},
        "before the head": {"before"},
    }
    place = next(place for place, methods in INSERTIONS.items() if method in methods)
    case = next(case for case in METHOD_CASES if case.method == method)
    assert inserted(case) == expected[place]


def inserted(case: Case) -> set[str]:
    """Return which tensors are parametrized, on which side of modules something is put, and whether it is shared."""
    network, plain = case.adapt().network, tiny_network(case.network)
    kinds = set()
    for module in network.modules():
        kinds |= set(module.parametrizations) if parametrize.is_parametrized(module) else set()  # type: ignore[arg-type]
        kinds |= {"behind"} if module._forward_hooks else set()
        kinds |= {"before"} if module._forward_pre_hooks else set()
    return kinds | ({"shared"} if _most_names(network) > _most_names(plain) else set())


def _most_names(network: nn.Module) -> int:
    """Return under how many names the tensor with the most of them goes."""
    return max(Counter(id(p) for _, p in network.named_parameters(remove_duplicate=False)).values())


# Closed forms of the parameter counts, from the table of layers in tiny.py


def own_layers(case: Case, targets: str = "all") -> list[Layer]:
    """Return the layers of the targeted part that are not trained whole."""
    return [layer for layer in LAYERS[case.network] if _is_own(case, targets, layer.part)]


def updated_layers(case: Case, targets: str = "all") -> list[Layer]:
    """Return the own layers that a low-rank update can change: not those that scale one channel in front of a norm."""
    return [layer for layer in own_layers(case, targets) if layer.columns > 1 or not has_norm_behind(case, layer)]


def own_blocks(case: Case, targets: str = "all") -> list[BlockOf]:
    """Return the blocks of the targeted part that are not trained whole."""
    return [block for block in BLOCKS[case.network] if _is_own(case, targets, block.part)]


def _is_own(case: Case, targets: str, part: str) -> bool:
    return targets in ("all", part) and not (case.decoder == "tuned" and part == "decoder")


def has_norm_behind(case: Case, layer: Layer) -> bool:
    """Whether a norm is right behind a layer; those of Swin UNETR's convolutions have no parameters."""
    return layer.norm or (case.network == "swin" and layer.part != "encoder" and not layer.transposed)


def is_qkv(layer: Layer) -> bool:
    return layer.table > 0


def low_rank(case: Case, rank: int = 4, gates: int = 0, targets: str = "all") -> int:
    """Count the factors, and `gates` values a term; query, key and value have `rank` terms each."""
    own = updated_layers(case, targets)
    ranks = [min(rank, each.rows, each.columns) for each in own]  # what reads the image may allow few only
    return sum(
        r * (each.rows + (3 if is_qkv(each) else 1) * (each.columns + gates))
        for r, each in zip(ranks, own, strict=True)
    )


def joint_qkv(case: Case, rank: int, gates: int = 0) -> int:
    return sum(rank * (each.rows + each.columns + gates) for each in own_layers(case, "encoder") if is_qkv(each))


def tucker(case: Case, rank: int = 4) -> int:
    total = 0
    for layer in updated_layers(case):
        if layer.kernel == 1:
            r = min(rank, layer.rows, layer.columns)
            total += r * layer.rows + r * (3 if is_qkv(layer) else 1) * layer.columns
        else:
            first, second = (layer.inputs, layer.outputs) if layer.transposed else (layer.outputs, layer.inputs)
            r, s = min(rank, first), min(rank, second)
            total += first * r + r * s * layer.kernel + s * second
    return total


def dora(case: Case) -> int:
    live = case.network == "plain_batch_norm"  # its norms keep their statistics, so a magnitude in front of them lives
    return low_rank(case) + sum(each.outputs for each in own_layers(case) if live or not has_norm_behind(case, each))


def biases(case: Case, targets: str = "all") -> int:
    own = own_layers(case, targets)
    return sum(
        each.outputs * (each.norm or (each.bias and not has_norm_behind(case, each))) + each.layer_norm for each in own
    )


def affine(case: Case, targets: str = "all") -> int:
    return sum(2 * (each.outputs * each.norm + each.layer_norm) for each in own_layers(case, targets))


def ssf(case: Case) -> int:
    return affine(case) + sum(
        each.outputs * (1 + each.bias) for each in own_layers(case) if not has_norm_behind(case, each)
    )


def adaptformer(case: Case, bottleneck: int, targets: str = "all") -> int:
    return sum(bottleneck * (b.inputs + 1 + b.outputs) + b.outputs for b in own_blocks(case, targets))


def conv_adapter(case: Case) -> int:
    total = 0
    for layer in own_layers(case, "encoder"):
        if layer.kernel > 1:
            width = max(1, layer.inputs // 4)
            inputs_of_a_group = layer.inputs // math.gcd(layer.inputs, width)
            total += width * inputs_of_a_group * layer.kernel + width * layer.outputs + layer.outputs
    return total


def compacter(case: Case, bottleneck: int = 24, products: int = 4) -> int:
    adapters = [b.outputs for b in own_blocks(case, "encoder") for _ in range(1 + b.attention)]
    own = sum(3 * channels + 3 * bottleneck for channels in adapters)
    return 2 * products**3 + own + affine(case, "encoder")


def whole(case: Case) -> int:
    return sum(layer.parameters for layer in own_layers(case))


# What a method trains itself, head and tuned decoder aside. A new method gets a line here.
OWN_PARAMETERS: dict[str, Callable[[Case], int]] = {
    "from_scratch": whole,
    "full": whole,
    "l2_sp": whole,
    "decoder": lambda case: 0,
    "linear_probe": lambda case: 0,
    "prototype": lambda case: 0,
    "spatial_adapter": lambda case: 2 * 27 * (12 if case.network == "swin" else 4) ** 2,
    "bitfit": biases,
    "bitfit:fseft": lambda case: sum(each.outputs + each.table for each in LAYERS["swin"] if each.linear and each.bias),
    "affine": affine,
    "affine:fseft": lambda case: affine(case, "encoder"),
    "tinytl": biases,
    "tinytl:fseft": lambda case: biases(case, "encoder"),
    "ssf": ssf,
    "lora": low_rank,
    "lora:fseft": lambda case: joint_qkv(case, 12),
    "lora_tucker": tucker,
    "dora": dora,
    "adalora": lambda case: low_rank(case, gates=1),
    "adalora:arena": lambda case: joint_qkv(case, 12, gates=1),
    "arena": lambda case: low_rank(case, gates=1),
    "arena:paper": lambda case: joint_qkv(case, 12, gates=1),
    "adaptformer": lambda case: adaptformer(case, 64),
    "adaptformer:fseft": lambda case: adaptformer(case, 16, "encoder"),
    "residual_adapter": lambda case: sum(
        each.outputs * each.inputs for each in own_layers(case, "encoder") if each.kernel == 27
    ),
    "residual_adapter:zero": lambda case: OWN_PARAMETERS["residual_adapter"](case),
    "conv_adapter": conv_adapter,
    "compacter": compacter,
}


@every_count
def test_parameter_count_equals_its_closed_form(case: Case) -> None:
    assert case.method in OWN_PARAMETERS, f"state the parameter count of {case.method} in OWN_PARAMETERS"
    decoder = sum(layer.parameters for layer in LAYERS[case.network] if layer.part == "decoder")
    tuned = decoder if case.decoder == "tuned" else 0
    assert case.adapt().report().trainable == OWN_PARAMETERS[case.method](case) + tuned


# Options

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


# Errors


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


# The low-rank update of one layer


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
