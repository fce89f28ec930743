"""What every adaptation method must do, on every network and with every decoder choice it is defined for."""

from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from method_cases import (
    CASES,
    INSERTION_CASES,
    INSERTIONS,
    METHOD_CASES,
    REPRESENTATIVES,
    UNDEFINED,
    Case,
    is_near,
    logits_of,
    logits_of_base,
    loss_of,
    parametrized,
    randomise,
    train,
    trained_apart_from_rounding,
)
from parameter_counts import OWN_PARAMETERS
from safetensors.torch import load_file, save_file
from tiny import LAYERS, head_parameters, tiny_network
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import Rates
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import Method
from fsseg.methods.registry import METHODS, create_method, method_class, method_names
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
# A step of the attention network takes a second: what holds for all methods of a kind of insertion is tested on one.
every_kind_of_step = parametrized([c for c in METHOD_CASES if c.network != "swin" or c.method in REPRESENTATIVES])
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
    difference = (logits_of(case.adapt().network) - logits_of_base(case.network)).abs().max().item()
    if create_method(case.method).identity_at_start:
        assert difference <= 1e-6
    else:
        assert difference > 1e-3, "a method that starts as its base should declare it"


@every_kind_of_step
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


@every_kind_of_step
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


@every_kind_of_step
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
    kept = deepcopy(merged)
    assert list(merged) == list(plain.state_dict())
    tensors = {id(t) for t in plain.state_dict(keep_vars=True).values()}
    assert len({id(t) for t in merged.values()}) == len(tensors), "one tensor under several names is formed once"
    plain.load_state_dict(merged, strict=True)
    torch.testing.assert_close(logits_of(plain), before_logits, rtol=0, atol=1e-5)

    assert_equal_states(adapted.state(), before)
    assert torch.equal(logits_of(adapted.network), before_logits)
    train(adapted, steps=1)
    assert not torch.equal(logits_of(adapted.network), before_logits), "merging ended the training"
    assert_equal_states(merged, kept)
    assert_equal_states(dict(plain.state_dict()), kept)


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


@every_count
def test_parameter_count_equals_its_closed_form(case: Case) -> None:
    assert case.method in OWN_PARAMETERS, f"state the parameter count of {case.method} in OWN_PARAMETERS"
    decoder = sum(layer.parameters for layer in LAYERS[case.network] if layer.part == "decoder")
    tuned = decoder if case.decoder == "tuned" else 0
    assert case.adapt().report().trainable == OWN_PARAMETERS[case.method](case) + tuned
