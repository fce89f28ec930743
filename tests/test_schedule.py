import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fsseg.training.schedule import CosineEpochs, PlateauRule, WarmupStableDecay
from fsseg.training.seeding import seeded
from fsseg.training.step import CLIP_NORM, Optimisation, gradient_scaler, optimisation_step

CPU = torch.device("cpu")
NEVER = PlateauRule(window=10**6)
QUICK = PlateauRule(window=5, patience=10, improvement=0.05)


def falling(step: int) -> float:
    return 0.9**step


def flat_after(start: int) -> Callable[[int], float]:
    return lambda step: falling(min(step, start))


def negative(step: int) -> float:
    """Fall the way the "sum" reduction does, through zero towards minus one a structure."""
    return 1 - 0.1 * step


def run(schedule: WarmupStableDecay, loss: Callable[[int], float]) -> list[float]:
    """Train to the end; return the factor of every step."""
    factors = []
    for step in range(10_000):
        factors.append(schedule.factor())
        if schedule.record(loss(step)):
            return factors
    raise AssertionError("the schedule does not end")


# Plateau


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], False),
        ([1.0] * 14, False),  # window + patience = 15 losses are needed
        ([1.0] * 15, True),
        ([falling(step) for step in range(15)], False),
        ([negative(step) for step in range(15)], False),
        ([negative(step) for step in range(40)], False),
        ([-1.0] * 15, True),
        ([float(step) for step in range(15)], True),  # rising
        ([1.0] * 5 + [0.5] * 5 + [0.94] * 5, False),  # 6 % lower than ten steps ago
        ([1.0] * 5 + [0.5] * 5 + [0.96] * 5, True),  # 4 % lower
        ([9.0] * 50 + [1.0] * 15, True),  # what came before does not count
    ],
)
def test_plateau_compares_the_last_window_with_the_one_before_the_patience(losses: list[float], expected: bool) -> None:
    assert QUICK.reached(losses) is expected


def test_plateau_averages_noise_out() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 300)
    trend = [1 - 0.002 * step + noise[step] for step in range(300)]
    rule = PlateauRule(window=50, patience=100, improvement=0.05)
    assert not any(rule.reached(trend[:step]) for step in range(300))


# Schedule


def test_rate_warms_up_linearly_and_stays() -> None:
    factors = run(WarmupStableDecay(100, NEVER, warmup_steps=10), falling)
    assert factors[:10] == pytest.approx([0.1 * step for step in range(1, 11)], abs=1e-12)
    assert set(factors[10:80]) == {1.0}


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert run(WarmupStableDecay(20, NEVER, warmup_steps=0), falling)[0] == 1.0


def test_without_a_plateau_the_cap_ends_training_with_the_decay_included() -> None:
    schedule = WarmupStableDecay(100, NEVER)
    factors = run(schedule, falling)
    assert len(factors) == 100
    assert schedule.decay_start == 80
    assert not schedule.plateau
    assert factors[80:] == pytest.approx([1 - step / 20 for step in range(20)], abs=1e-12)


def test_a_plateau_starts_the_decay() -> None:
    schedule = WarmupStableDecay(1000, QUICK)
    factors = run(schedule, flat_after(40))
    assert schedule.plateau
    start = schedule.decay_start
    assert start is not None
    assert 40 < start <= 40 + QUICK.window + QUICK.patience
    assert set(factors[10:start]) == {1.0}
    assert len(factors) == start + round(0.25 * start)
    assert all(later < earlier for earlier, later in zip(factors[start:], factors[start + 1 :], strict=False))


@pytest.mark.parametrize("decay_share", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("flat_from", [30, 90, 10_000])
def test_rate_ends_near_zero(decay_share: float, flat_from: int) -> None:
    schedule = WarmupStableDecay(200, QUICK, decay_share=decay_share)
    factors = run(schedule, flat_after(flat_from))
    assert schedule.decay_start is not None
    decay = len(factors) - schedule.decay_start
    assert factors[-1] == pytest.approx(1 / decay, abs=1e-12)
    assert factors[-1] <= 0.25
    assert schedule.factor() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", [NEVER, QUICK, PlateauRule(window=1, patience=1)])
@pytest.mark.parametrize("max_steps", [1, 2, 3, 7, 15, 16, 19, 50, 101])
def test_training_is_never_longer_than_the_cap(max_steps: int, rule: PlateauRule) -> None:
    for loss in (falling, flat_after(3), negative):
        schedule = WarmupStableDecay(max_steps, rule)
        factors = run(schedule, loss)
        assert len(factors) <= max_steps
        assert len(factors) == schedule.end
        assert all(0 < factor <= 1 for factor in factors)
        if rule is NEVER:
            assert len(factors) == max_steps


@pytest.mark.parametrize("max_steps", [3, 14, 30, 1000])
@pytest.mark.parametrize(
    "rule", [QUICK, PlateauRule(5, 10, 0.05, first=17, every=4), PlateauRule(1, 1, first=2, every=5)]
)
def test_no_training_ends_before_the_earliest_end(max_steps: int, rule: PlateauRule) -> None:
    for schedule in (WarmupStableDecay(max_steps, rule), CosineEpochs(max_steps, rule, epoch_steps=1)):
        earliest = schedule.earliest_end
        steps = next(step for step in range(1, 2000) if schedule.record(1.0))
        assert steps == earliest == min(max_steps, earliest)


def test_the_losses_alone_decide_the_schedule() -> None:
    """So that a resumed run that replays its losses continues as if it had not stopped."""
    complete = WarmupStableDecay(200, QUICK)
    factors = run(complete, flat_after(30))
    for stop in (5, 45, len(factors) - 2):
        resumed = WarmupStableDecay(200, QUICK)
        for loss in complete.losses[:stop]:
            assert not resumed.record(loss)
        rest = []
        for loss in complete.losses[stop:]:
            rest.append(resumed.factor())
            ended = resumed.record(loss)
        assert ended
        assert rest == factors[stop:]


# One step


def linear() -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    return layer, torch.optim.SGD(layer.parameters(), lr=0.1)


def loss_of(layer: nn.Linear, factor: float = 1.0) -> Callable[[], Tensor]:
    return lambda: factor * layer(torch.ones(4, 3)).square().mean()


@pytest.mark.parametrize("scaled", [False, True])
def test_step_descends_along_the_gradient(scaled: bool) -> None:
    layer, optimizer = linear()
    reference, reference_optimizer = linear()
    scaler = torch.amp.GradScaler("cpu") if scaled else None
    loss, stepped = optimisation_step(
        Optimisation(optimizer, list(layer.parameters()), CPU, "float32", scaler), loss_of(layer)
    )
    expected = loss_of(reference)()
    expected.backward()
    reference_optimizer.step()
    assert stepped is True
    assert loss == expected.item()
    torch.testing.assert_close(layer.weight, reference.weight, rtol=0, atol=1e-6)


def test_step_is_skipped_and_says_so_when_the_scaler_finds_infinite_gradients() -> None:
    layer, optimizer = linear()
    before = layer.weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu")
    optimisation = Optimisation(optimizer, list(layer.parameters()), CPU, "float32", scaler)
    _, stepped = optimisation_step(optimisation, loss_of(layer, float("inf")))
    assert stepped is False
    assert torch.equal(layer.weight, before)
    loss, stepped = optimisation_step(optimisation, loss_of(layer))
    assert stepped is True
    assert np.isfinite(loss)
    assert not torch.equal(layer.weight, before)
    assert torch.isfinite(layer.weight).all()


def test_a_growing_scale_is_no_skipped_step() -> None:
    layer, optimizer = linear()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)
    _, stepped = optimisation_step(
        Optimisation(optimizer, list(layer.parameters()), CPU, "float32", scaler), loss_of(layer)
    )
    assert scaler.get_scale() == 4.0
    assert stepped is True


@pytest.mark.parametrize("scaled", [False, True])
def test_gradient_norm_is_clipped(scaled: bool) -> None:
    layer, optimizer = linear()
    before = [p.detach().clone() for p in layer.parameters()]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    optimisation_step(Optimisation(optimizer, list(layer.parameters()), CPU, "float32", scaler), loss_of(layer, 1e6))
    moved = torch.cat([(p - b).flatten() for p, b in zip(layer.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.1 * CLIP_NORM, rel=1e-5)


def test_gradients_need_not_be_clipped() -> None:
    layer = nn.Linear(3, 1)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    unclipped = Optimisation(optimizer, list(layer.parameters()), CPU, "float32", clip_norm=None)
    optimisation_step(unclipped, loss_of(layer, 1e6))
    assert (layer.weight - before).norm() > 1000 * CLIP_NORM


def test_before_step_sees_unscaled_gradients_and_its_change_is_used() -> None:
    layer, optimizer = linear()
    reference, _ = linear()
    loss_of(reference)().backward()
    before = layer.weight.detach().clone()
    seen = []

    def drop_weight_gradient() -> None:
        assert layer.weight.grad is not None
        seen.append(layer.weight.grad.clone())
        layer.weight.grad.zero_()

    optimisation_step(
        Optimisation(optimizer, list(layer.parameters()), CPU, "float32", torch.amp.GradScaler("cpu")),
        loss_of(layer),
        before_step=drop_weight_gradient,
    )
    torch.testing.assert_close(seen[0], reference.weight.grad, rtol=0, atol=1e-6)
    assert torch.equal(layer.weight, before)
    assert not torch.equal(layer.bias, reference.bias)


def test_gradients_do_not_add_up_over_steps() -> None:
    layer, optimizer = linear()
    for _ in range(2):
        optimisation_step(Optimisation(optimizer, list(layer.parameters()), CPU, "float32"), loss_of(layer))
        last = layer.weight.grad
    again = nn.Linear(3, 2)
    again.load_state_dict({name: p + 0.1 * p.grad for name, p in layer.named_parameters()})  # undo the last step
    loss_of(again)().backward()
    assert last is not None
    torch.testing.assert_close(last, again.weight.grad, rtol=0, atol=1e-6)


def test_a_cpu_trains_without_a_gradient_scaler() -> None:
    assert gradient_scaler(CPU, "auto") is None


# Random state


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), torch.rand(1).item()  # noqa: NPY002


def draws_under(*entropy: int) -> tuple[float, float, float]:
    with seeded(*entropy):
        return draws()


def seed_callers(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def test_seeded_fixes_all_generators() -> None:
    first = draws_under(5)
    assert draws_under(5) == first
    assert not set(draws_under(6)) & set(first)


def test_seeded_depends_on_the_entropy_only() -> None:
    seed_callers(0)
    first = draws_under(3, 17)
    seed_callers(99)
    draws()
    assert draws_under(3, 17) == first


def test_every_part_of_the_entropy_counts() -> None:
    results = [draws_under(*entropy) for entropy in [(3, 17), (17, 3), (3, 18), (4, 17), (3,), (2**40, 17)]]
    for generator in zip(*results, strict=True):
        assert len(set(generator)) == len(results)


@pytest.mark.parametrize("fails", [False, True])
def test_seeded_gives_the_generators_their_state_back(fails: bool) -> None:
    seed_callers(1)
    expected = draws()
    seed_callers(1)
    try:
        with seeded(3):
            draws()
            if fails:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert fails
    assert draws() == expected


def test_seeded_blocks_nest() -> None:
    with seeded(1):
        plain = [draws(), draws()]
    with seeded(1):
        first = draws()
        draws_under(2)
        assert [first, draws()] == plain
