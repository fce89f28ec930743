"""Each method's formula against an independent computation, and what it selects, shrinks and saves."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from layers import LAYER_CASES, eighths, layer_input
from safetensors.torch import load_file, save_file
from tiny import STRUCTURES, image, tiny_network
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.recipes import Rates, Recipe
from fsseg.methods.adalora import AdaLoRA
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.compacter import KroneckerLinear
from fsseg.methods.contract import DecoderChoice
from fsseg.methods.conv_adapter import Branch
from fsseg.methods.dora import MagnitudeUpdate
from fsseg.methods.gated_rank import GatedUpdate
from fsseg.methods.lora_tucker import TuckerUpdate
from fsseg.methods.low_rank import LowRankUpdate, updates_of
from fsseg.methods.registry import METHODS, create_method, method_class
from fsseg.methods.residual_adapter import CentralTap
from fsseg.methods.ssf import Scale, ScaleAndShift
from fsseg.training.fit import fit
from fsseg.training.losses import MaskedLoss, fseft
from fsseg.training.plan import Inputs, TrainingPlan
from fsseg.training.schedule import PlateauRule, WarmupStableDecay
from fsseg.training.targets import TargetTable

CONVOLUTIONS = [name for name in LAYER_CASES if name != "linear"]
WITH_EXTENT = [name for name in CONVOLUTIONS if "1x1x1" not in name]


def adapted(method: str, decoder: DecoderChoice = "frozen", network: str = "plain", **options: Any) -> AdaptedNetwork:
    torch.manual_seed(0)
    return AdaptedNetwork(tiny_network(network), create_method(method, options), decoder)


def plain_layer(name: str) -> nn.Module:
    """Return a layer in float64 with values in eighths, so that nothing hides in rounding."""
    torch.manual_seed(0)
    layer = LAYER_CASES[name]().double()
    fill(layer)
    return layer


@torch.no_grad()
def fill(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.copy_(eighths(*parameter.shape))


# LoRA: query, key and value apart


def test_separate_projections_are_three_updates_beside_each_other() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 12).double()
    update = LowRankUpdate(layer, rank=2, blocks=3)
    fill(update)
    x = eighths(5, 6)
    expected = torch.cat(
        [x @ update.right[2 * b : 2 * b + 2].T @ update.left[4 * b : 4 * b + 4].T for b in range(3)], 1
    )
    parametrize.register_parametrization(layer, "weight", update)
    base = nn.functional.linear(x, layer.parametrizations.weight.original, layer.bias)  # type: ignore[union-attr]
    torch.testing.assert_close(layer(x) - base, expected, rtol=0, atol=1e-10)


# LoRA-Tucker


@pytest.mark.parametrize("name", WITH_EXTENT)
def test_tucker_update_equals_three_convolutions_in_a_row(name: str) -> None:
    """Groups share the core and the projection that all of them have; the other projection has rows of each."""
    layer = plain_layer(name)
    assert isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)
    update = TuckerUpdate(layer, rank=3).double()
    fill(update)
    x = layer_input(name)
    settings: dict[str, Any] = {k: getattr(layer, k) for k in ("stride", "padding", "dilation")}
    changes = []
    for inputs, rows in zip(x.chunk(layer.groups, dim=1), update.first.chunk(layer.groups), strict=True):
        if isinstance(layer, nn.ConvTranspose3d):
            narrow = nn.functional.conv3d(inputs, rows.T[..., None, None, None])
            narrow = nn.functional.conv_transpose3d(narrow, update.core, **settings)
            changes.append(nn.functional.conv3d(narrow, update.second.T[..., None, None, None]))
        else:
            narrow = nn.functional.conv3d(inputs, update.second[..., None, None, None])
            narrow = nn.functional.conv3d(narrow, update.core, **settings)
            changes.append(nn.functional.conv3d(narrow, rows[..., None, None, None]))
    change = torch.cat(changes, dim=1)
    expected = layer(x) + change
    assert change.abs().max() > 0.1
    parametrize.register_parametrization(layer, "weight", update)
    torch.testing.assert_close(layer(x), expected, rtol=1e-6, atol=1e-4)  # formed in float32


@pytest.mark.parametrize("name", WITH_EXTENT)
def test_tucker_update_starts_at_zero_with_live_factors(name: str) -> None:
    layer = LAYER_CASES[name]()
    update = TuckerUpdate(layer, rank=3)  # type: ignore[arg-type]
    assert torch.equal(update(layer.weight), layer.weight)
    zero = update.second if isinstance(layer, nn.ConvTranspose3d) else update.first
    assert [not p.any() for p in update.parameters()] == [p is zero for p in update.parameters()]


def test_tucker_projections_have_no_more_components_than_channels() -> None:
    update = TuckerUpdate(nn.Conv3d(1, 6, 3), rank=4)
    assert [tuple(p.shape) for p in update.parameters()] == [(6, 4), (4, 1, 3, 3, 3), (1, 1)]


# DoRA


def output_norms(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return the norm of what each output channel reads, shaped so that it divides the layer's output."""
    read_by: list[Tensor] = []
    groups = getattr(layer, "groups", 1)
    if isinstance(layer, nn.ConvTranspose3d):
        for rows in weight.chunk(groups):
            read_by += [rows[:, o].flatten() for o in range(rows.shape[1])]
    else:
        read_by = [row.flatten() for row in weight]
    return torch.stack([row.norm() for row in read_by]).float()


@pytest.mark.parametrize("name", LAYER_CASES)
def test_dora_sets_the_norm_of_every_output_channel_to_its_magnitude(name: str) -> None:
    layer = plain_layer(name)
    update = MagnitudeUpdate(layer, rank=2)
    torch.testing.assert_close(update.magnitude.flatten(), output_norms(layer, layer.weight))  # type: ignore[arg-type]
    with torch.no_grad():
        update.left.copy_(eighths(*update.left.shape))
        update.right.copy_(eighths(*update.right.shape))
        update.magnitude.uniform_(0.5, 2.0)
    weight = update(layer.weight)
    torch.testing.assert_close(output_norms(layer, weight), update.magnitude.flatten(), rtol=1e-5, atol=1e-5)
    direction = LowRankUpdate.forward(update, layer.weight)  # type: ignore[arg-type]
    parallel = nn.functional.cosine_similarity(weight.flatten(), direction.flatten(), dim=0)
    assert parallel > 0.5
    ratio = output_norms(layer, weight) / output_norms(layer, direction)
    assert ratio.std() > 0.05 * ratio.mean(), "each output has a factor of its own"


def test_dora_takes_the_norm_as_a_constant_in_the_backward_pass() -> None:
    layer = plain_layer("linear")
    update = MagnitudeUpdate(layer, rank=2)
    with torch.no_grad():
        update.left.copy_(eighths(*update.left.shape))
    out = eighths(5, 6)
    (update(layer.weight) * out).sum().backward()
    moved = LowRankUpdate.forward(update, layer.weight).detach()  # type: ignore[arg-type]
    factor = (update.magnitude / moved.norm(dim=1, keepdim=True)).detach()
    assert update.right.grad is not None
    torch.testing.assert_close(update.right.grad, update.left.detach().T @ (factor * out), rtol=1e-5, atol=1e-5)


def test_dora_says_where_it_is_lora() -> None:
    assert adapted("dora").notes == [
        "8 of 10 layers feed a normalisation that takes their magnitude out again: DoRA is LoRA there."
    ]
    assert adapted("dora", network="plain_batch_norm").notes == []
    with pytest.raises(UsageError, match="which makes it LoRA"):
        adapted("dora", "tuned")


# ARENA


def test_arena_shrinks_every_gate_by_sparsity_times_rate_and_stops_at_zero() -> None:
    network = adapted("arena", rank=4, sparsity=0.5)
    update = next(iter(updates_of(network.network, GatedUpdate).values()))
    with torch.no_grad():
        update.gate.copy_(torch.tensor([0.3, -0.3, 0.04, -0.04]))
    network.method.after_step(network.network, learning_rate=0.1)
    torch.testing.assert_close(update.gate.detach(), torch.tensor([0.25, -0.25, 0.0, 0.0]))


def test_arena_starts_its_gates_in_their_range_and_reports_ranks() -> None:
    narrow, wide = adapted("arena", rank=4, gate_range=0.1), adapted("arena", rank=4)
    gates = [torch.cat([u.gate for u in updates_of(a.network, GatedUpdate).values()]).abs() for a in (narrow, wide)]
    assert 0.08 < gates[0].max() <= 0.1 < 0.8 < gates[1].max() <= 1.0
    assert narrow.method.ranks(narrow.network) == dict.fromkeys(updates_of(narrow.network, GatedUpdate), 4)


@pytest.mark.parametrize("seed", range(3))
def test_default_of_arena_finds_a_smaller_rank_within_a_training_of_the_default_recipe(seed: int) -> None:
    """A layer learns an update of rank two from noisy targets, at the recipe's rate, with eight terms to start with."""
    torch.manual_seed(seed)
    method, rate = create_method("arena"), Recipe().learning_rates["low_rank"]
    layer = nn.Linear(16, 16, bias=False)
    change = torch.randn(16, 2) @ torch.randn(2, 16) / 16
    wanted = layer.weight.detach() + change
    update = GatedUpdate(layer, rank=8)
    parametrize.register_parametrization(layer, "weight", update)
    gate_range = method.options.gate_range  # type: ignore[attr-defined]
    nn.init.uniform_(update.gate, -gate_range, gate_range)
    optimizer = torch.optim.AdamW(update.parameters(), rate, weight_decay=0.0)
    for _ in range(1200):
        x = torch.randn(4, 16)
        optimizer.zero_grad()
        (layer(x) - x @ wanted.T - torch.randn(4, 16)).square().mean().backward()
        optimizer.step()
        method.after_step(layer, rate)
    assert 2 <= update.gate.count_nonzero() <= 6
    assert (layer.weight - wanted).norm() < 0.35 * change.norm()


# AdaLoRA


def trained_adalora(steps: int, least_steps: int) -> AdaptedNetwork:
    network = adapted("adalora", rank=4, target_rank=2, budget_start=2, budget_end=10, interval=3)
    network.method.on_training_start(network.network, least_steps)
    optimizer = torch.optim.AdamW(network.trainable().values(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = network.network(image(size=8))
        (logits.square().mean() + network.method.penalty(network.network)).backward()  # type: ignore[operator]
        network.method.before_step(network.network)
        optimizer.step()
        network.method.after_step(network.network, 1e-2)
    return network


@pytest.mark.parametrize(("steps", "terms"), [(2, 40), (3, 20 + round(20 * (7 / 8) ** 3)), (6, 20 + round(20 / 8))])
def test_adalora_budget_falls_along_a_cubic(steps: int, terms: int) -> None:
    network = trained_adalora(steps, least_steps=1000)
    assert sum(network.method.ranks(network.network).values()) == terms


def test_adalora_ends_at_its_target_and_not_equally_on_all_layers() -> None:
    network = trained_adalora(14, least_steps=1000)
    ranks = network.method.ranks(network.network)
    assert sum(ranks.values()) == 2 * len(ranks)
    assert len(set(ranks.values())) > 1


def test_adalora_fits_its_schedule_into_the_shortest_training() -> None:
    network = trained_adalora(5, least_steps=5)
    ranks = network.method.ranks(network.network)
    assert sum(ranks.values()) == 2 * len(ranks)


def test_adalora_keeps_the_terms_of_largest_importance() -> None:
    network = trained_adalora(5, least_steps=1000)
    method, updates = network.method, updates_of(network.network, GatedUpdate)
    assert isinstance(method, AdaLoRA)
    before = {name: update.gate.detach().clone() for name, update in updates.items()}
    scores = {}
    for name, update in updates.items():
        parts = [
            method._importance[p].mean * method._importance[p].deviation
            for p in (update.gate, update.left, update.right)
        ]
        scores[name] = parts[0] + parts[1].mean(0) + parts[2].mean(1)
    method.after_step(network.network, 1e-2)
    cut = torch.cat([scores[n][(before[n] != 0) & (updates[n].gate == 0)] for n in updates])
    kept = torch.cat([scores[n][updates[n].gate != 0] for n in updates])
    assert len(cut)
    assert cut.max() <= kept.min()


def test_adalora_penalty_is_the_distance_from_orthogonality() -> None:
    network = adapted("adalora", rank=4, target_rank=2, orthogonality=0.5)
    distances = []
    for update in updates_of(network.network, GatedUpdate).values():
        for matrix in (update.left.detach().numpy(), update.right.detach().numpy().T):
            distances.append(((matrix.T @ matrix - torch.eye(4).numpy()) ** 2).sum())
    expected = 0.5 * 2 * sum(distances) / len(distances)
    assert network.method.penalty(network.network).item() == pytest.approx(expected, rel=1e-5)  # type: ignore[union-attr]


# Saved files of shrunk ranks


def shrunk() -> tuple[AdaptedNetwork, dict[str, Tensor]]:
    """Return an ARENA network in which a third of the gates are zero, in one layer all of them, and its state."""
    network = adapted("arena", rank=4)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        for index, update in enumerate(updates_of(network.network, GatedUpdate).values()):
            update.gate[torch.rand(4, generator=generator) < 0.3] = 0
            if index == 2:
                update.gate.zero_()
    return network, network.state()


def test_zero_gates_are_cut_from_the_saved_tensors_and_nothing_else(tmp_path: Path) -> None:
    network, state = shrunk()
    ranks = network.method.ranks(network.network)
    assert 0 in ranks.values()
    compact = network.compact_state()
    for name, rank in ranks.items():
        prefix = f"{name}.parametrizations.weight.0."
        assert len(compact[prefix + "gate"]) == len(compact[prefix + "left"]) == len(compact[prefix + "right"]) == rank
    sizes = [sum(t.numel() for t in tensors.values()) for tensors in (compact, state)]
    assert sizes[0] < sizes[1]
    save_file({name: tensor.contiguous() for name, tensor in compact.items()}, tmp_path / "a.safetensors")
    fresh = adapted("arena", rank=4)
    fresh.load_state(load_file(tmp_path / "a.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(fresh.network(image()), network.network(image()), rtol=0, atol=1e-6)


def test_terms_of_separate_projections_return_to_their_places() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 12)
    parametrize.register_parametrization(layer, "weight", GatedUpdate(layer, rank=2, blocks=3))
    update = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
    for parameter in update.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        update.gate[torch.tensor([0, 3])] = 0
    method = create_method("arena")
    state = {
        name: p.detach().clone()
        for name, p in layer.named_parameters()
        if "gate" in name or "left" in name or "right" in name
    }
    back = method.expand_state(method.compact_state(state), state)
    weight = layer.weight.detach().clone()
    layer.load_state_dict(back, strict=False)
    torch.testing.assert_close(layer.weight, weight, rtol=0, atol=1e-7)


def test_damaged_index_of_live_terms_is_refused() -> None:
    network, _ = shrunk()
    compact = network.compact_state()
    name = next(name for name in compact if name.endswith(".live") and len(compact[name]))
    compact[name] = compact[name] + 100
    with pytest.raises(FssegError, match="does not fit"):
        adapted("arena", rank=4).load_state(compact)


# Selected parameters


def test_bitfit_leaves_dead_biases_out_and_says_so() -> None:
    network = adapted("bitfit")
    own = {n for n in network.trainable() if "seg_layers" not in n}
    assert own
    assert all(name.endswith(".bias") for name in own)
    assert all("norm" in name or "transpconvs" in name for name in own)
    assert network.notes == ["8 biases feed a normalisation, which takes them out again; they are not trained."]


def test_affine_needs_affine_norms() -> None:
    network = tiny_network("plain")
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm3d):
            module.affine, module.weight, module.bias = False, None, None  # type: ignore[assignment]
    with pytest.raises(UsageError, match="norms have no affine parameters"):
        AdaptedNetwork(network, create_method("affine"), "frozen")


def test_methods_say_what_they_collapse_onto() -> None:
    assert adapted("tinytl").notes == ["On a convolutional network this is bitfit."]
    assert set(adapted("tinytl").trainable()) == set(adapted("bitfit").trainable())
    assert adapted("ssf", "tuned").notes == ["Only norms are left to scale and shift: this is affine."]
    assert adapted("ssf", "tuned").report().trainable == adapted("affine", "tuned").report().trainable


# SSF


def ssf_layer(layer: nn.Module) -> nn.Module:
    scale = Scale(layer)
    parametrize.register_parametrization(layer, "weight", scale)
    parametrize.register_parametrization(layer, "bias", ScaleAndShift(layer.bias, scale.scale))  # type: ignore[arg-type]
    for parametrization in (scale, layer.parametrizations.bias[0]):  # type: ignore[union-attr, index]
        fill(parametrization)
    return layer


@pytest.mark.parametrize("name", [*LAYER_CASES, "instance norm"])
def test_ssf_scales_and_shifts_the_output(name: str) -> None:
    plain = nn.InstanceNorm3d(4, affine=True).double() if name == "instance norm" else plain_layer(name)
    x = layer_input("conv" if name == "instance norm" else name)
    fill(plain)
    changed = ssf_layer(deepcopy(plain))
    shift = changed.parametrizations.bias[0].shift  # type: ignore[union-attr, index]
    scale = changed.parametrizations.weight[0].scale  # type: ignore[union-attr, index]
    shape = (-1,) if name == "linear" else (-1, 1, 1, 1)
    expected = plain(x) * scale.view(shape) + shift.view(shape)
    torch.testing.assert_close(changed(x), expected, rtol=0, atol=1e-10)


# Residual adapters and Conv-Adapter

CENTRED = ["conv", "conv stride 2", "conv dilation 2", "conv groups 2", "conv anisotropic"]


@pytest.mark.parametrize("name", CENTRED)
def test_residual_adapter_is_a_1x1x1_convolution_beside(name: str) -> None:
    layer = plain_layer(name)
    assert isinstance(layer, nn.Conv3d)
    tap = CentralTap(layer)
    fill(tap)
    x = layer_input(name)
    beside = nn.functional.conv3d(x, tap.tap[..., None, None, None], stride=layer.stride, groups=layer.groups)
    expected = layer(x) + beside
    parametrize.register_parametrization(layer, "weight", tap)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_conv_adapter_says_what_it_leaves_out_of_attention() -> None:
    assert adapted("conv_adapter").notes == []
    (note,) = adapted("conv_adapter", network="swin").notes
    assert note.startswith("1 convolution(s) get a branch, ")
    assert "adaptformer" in note


@pytest.mark.parametrize("name", CENTRED)
def test_conv_adapter_branch_has_the_shape_of_its_convolution(name: str) -> None:
    layer = LAYER_CASES[name]()
    x = layer_input(name).float()
    branch = Branch(layer, reduction=2)  # type: ignore[arg-type]
    assert branch(x).shape == layer(x).shape
    assert not branch(x).any()
    fill(branch)
    hidden = nn.functional.relu(branch.depth(x))
    expected = torch.einsum("oi,bixyz->boxyz", branch.point.weight[..., 0, 0, 0], hidden) * branch.factor
    torch.testing.assert_close(branch(x), expected)
    assert branch.depth.groups == 2  # gcd(4 inputs, 2 channels)


# Compacter


def test_kronecker_linear_is_a_sum_of_kronecker_products() -> None:
    torch.manual_seed(0)
    layer = KroneckerLinear(8, 12, nn.Parameter(torch.randn(4, 4, 4)))
    nn.init.normal_(layer.bias)
    weight = sum(
        torch.kron(a, torch.outer(s, t)) for a, s, t in zip(layer.shared, layer.left, layer.right, strict=True)
    )
    x = torch.randn(5, 8)
    torch.testing.assert_close(layer(x), x @ weight.T + layer.bias)  # type: ignore[union-attr]


def test_compacter_needs_channels_that_its_products_divide() -> None:
    with pytest.raises(UsageError, match=r"multiples of products=3, but not so: .*4 channels"):
        adapted("compacter", products=3, bottleneck=6)
    with pytest.raises(UsageError, match=r"the bottleneck \(6\)"):
        adapted("compacter", products=4, bottleneck=6)


def test_compacter_shares_its_matrices() -> None:
    names = [name for name in adapted("compacter").trainable() if name.endswith(".shared")]
    assert len(names) == 2


# AdaptFormer


def test_adaptformer_adds_a_scaled_bottleneck_beside_every_block() -> None:
    network = adapted("adaptformer", bottleneck=5, scale=0.5)
    block = network.network.encoder.stages[1][0].convs[0]  # type: ignore[index, union-attr]
    adapter = block.adaptformer
    for parameter in adapter.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(1, 4, 8, 8, 8)
    plain = tiny_network("plain").encoder.stages[1][0].convs[0]  # type: ignore[index, union-attr]
    hidden = torch.relu(
        torch.einsum("oi,bixyz->boxyz", adapter.down.weight[..., 0, 0, 0], x[..., ::2, ::2, ::2])
        + adapter.down.bias.view(-1, 1, 1, 1)
    )
    change = torch.einsum("oi,bixyz->boxyz", adapter.up.weight[..., 0, 0, 0], hidden) + adapter.up.bias.view(
        -1, 1, 1, 1
    )
    torch.testing.assert_close(block(x), plain(x) + 0.5 * change, rtol=1e-4, atol=1e-4)


# L2-SP


def test_l2_sp_penalises_the_distance_from_the_start() -> None:
    network = adapted("l2_sp", "tuned", alpha=0.1, beta=0.4)
    assert network.method.penalty(network.network).item() == 0  # type: ignore[union-attr]
    start = {name: p.detach().clone() for name, p in network.trainable().items()}
    with torch.no_grad():
        for parameter in network.trainable().values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    squares = {n: (p.detach() - start[n]).square().sum().item() for n, p in network.trainable().items()}
    head = {name for name in squares if "seg_layers" in name}
    expected = 0.05 * sum(v for n, v in squares.items() if n not in head) + 0.2 * sum(squares[n] for n in head)
    assert head
    assert network.method.penalty(network.network).item() == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]


# Around a step


def fitted(network: AdaptedNetwork, steps: int) -> list[float]:
    """Train on one batch; return the losses."""
    batch = {
        "image": image(size=8),
        "labels": torch.zeros(2, 2, 8, 8, 8, dtype=torch.int16),
        "zone_annotated": torch.ones(2, 1, STRUCTURES, dtype=torch.bool),
    }
    table = TargetTable(torch.zeros(1, STRUCTURES, dtype=torch.bool))
    plan = TrainingPlan(
        groups=network.parameter_groups(Rates(method=0.01, decoder=1.0, head=1.0)),
        schedule=WarmupStableDecay(steps, PlateauRule(), warmup_steps=1),
        loss=MaskedLoss(fseft),
        weight_decay=0.0,
        device=torch.device("cpu"),
        precision="auto",
        seed=0,
    )
    return fit(network, Inputs(network.network, lambda _: [batch] * steps, table), plan).losses


@pytest.mark.parametrize(
    ("method", "weak", "strong"),
    [
        ("l2_sp", {"alpha": 0.0, "beta": 0.0}, {"alpha": 1e-3, "beta": 1e3}),
        ("adalora", {"rank": 4, "target_rank": 2, "orthogonality": 0.0}, {"rank": 4, "target_rank": 2}),
    ],
)
def test_losses_are_recorded_without_the_penalty(method: str, weak: dict, strong: dict) -> None:
    """They decide when a training ends, and a falling penalty would hide a loss that no longer falls."""
    decoder: DecoderChoice = "tuned" if method == "l2_sp" else "frozen"
    free, drawn = adapted(method, decoder, **weak), adapted(method, decoder, **strong)
    free_losses, drawn_losses = fitted(free, 2), fitted(drawn, 2)
    assert drawn_losses[0] == free_losses[0]
    assert drawn.method.penalty(drawn.network).item() > 0.1  # type: ignore[union-attr]
    assert max(drawn_losses) <= 1, "a soft Dice loss"
    assert any(not torch.equal(tensor, free.state()[name]) for name, tensor in drawn.state().items())


@pytest.mark.parametrize("stepped", [True, False])
def test_gates_shrink_after_a_step_and_not_after_one_that_the_scaler_skipped(
    stepped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = adapted("arena", rank=4, sparsity=0.5)
    before = {name: gate.clone() for name, gate in network.state().items() if name.endswith(".gate")}
    monkeypatch.setattr("fsseg.training.fit.optimisation_step", lambda *_, **__: (1.0, stepped))
    fitted(network, 1)
    after = network.state()
    for name, gate in before.items():
        shrunk_gate = torch.nn.functional.softshrink(gate, 0.5 * 0.01)
        assert torch.equal(after[name], shrunk_gate if stepped else gate)


# What a network makes of a method


IN_PARTS = [name for name in METHODS if "targets" in method_class(name).Options.model_fields]


@pytest.mark.parametrize(
    "method", [name for name in IN_PARTS if name not in ("dora", "lora_tucker", "adalora", "arena")]
)
def test_what_is_trained_whole_is_the_reason_that_is_given(method: str) -> None:
    with pytest.raises(UsageError, match="decoder, which is trained whole") as caught:
        adapted(method, "tuned", targets="decoder")
    assert "Use targets=encoder, or --decoder frozen" in str(caught.value)
    adapted(method, "tuned", targets="encoder")


def test_advice_names_what_is_not_in_use_already() -> None:
    with pytest.raises(UsageError, match="there is none") as caught:
        adapted("lora:fseft")
    assert str(caught.value).endswith("Use layers=all.")
    with pytest.raises(UsageError, match="norms of targets=decoder have no affine parameters"):
        adapted("affine", network="swin", targets="decoder")


def test_bias_in_front_of_a_frozen_norm_that_keeps_its_statistics_lives() -> None:
    network = adapted("bitfit", network="plain_batch_norm", norms=False)
    convolutions = {name for name in network.trainable() if name.endswith("conv.bias")}
    assert len(convolutions) == 8
    assert network.notes == []
    network.train_mode()
    network.network(image(size=8)).square().mean().backward()
    for name in convolutions:
        assert network.network.get_parameter(name).grad.square().mean().sqrt() > 1e-5, name  # type: ignore[union-attr]
    with_norms = adapted("bitfit", network="plain_batch_norm")
    assert convolutions.isdisjoint(with_norms.trainable())
    assert with_norms.notes == ["8 biases feed a normalisation, which takes them out again; they are not trained."]


@pytest.mark.parametrize("method", ["bitfit", "bitfit:fseft", "ssf"])
def test_biases_of_keys_are_said_to_have_no_effect(method: str) -> None:
    network = adapted(method, network="swin")
    values = sum(12 * factor for factor in (1, 1, 2, 4, 8))
    assert any(note.startswith(f"{values} of the trained biases have no effect") for note in network.notes)
    network.network.double()  # norms amplify rounding, on some CPUs above any bound that means something
    before = network.network(image(size=(64, 32, 32), batch=1).double()).detach()
    moved = 0
    with torch.no_grad():
        for name, parameter in network.trainable().items():
            if ".qkv." in name and name.endswith(("bias", "shift")):
                third = len(parameter) // 3
                parameter[third : 2 * third] += torch.randn(third).double()
                moved += third
    assert moved == values
    after = network.network(image(size=(64, 32, 32), batch=1).double()).detach()
    torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["adaptformer", "compacter"])
def test_last_bias_in_front_of_a_norm_is_said_to_have_no_effect(method: str) -> None:
    network = adapted(method, network="seg_resnet", targets="all")
    (note,) = network.notes
    name = note.removeprefix("The last bias of the adapter at ").partition(" ")[0]
    before = network.network(image()).detach()
    bias = next(p for n, p in network.trainable().items() if n.startswith(name) and n.endswith("up.bias"))
    with torch.no_grad():
        bias.add_(torch.randn_like(bias))
    torch.testing.assert_close(network.network(image()).detach(), before, rtol=0, atol=1e-4)
    assert adapted(method, targets="all").notes == []


def test_weight_decay_leaves_the_gates_of_arena_alone() -> None:
    network = adapted("arena", rank=4)
    groups = network.parameter_groups(Rates(method=0.01, decoder=1.0, head=1.0))
    optimizer = torch.optim.AdamW(groups, weight_decay=10.0)
    before = network.state()
    for parameter in network.trainable().values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in network.state().items():
        assert torch.equal(tensor, before[name]) == (name.endswith(".gate") or not before[name].any()), name
