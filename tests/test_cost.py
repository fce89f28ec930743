"""What a training will cost: expected memory, free memory, measured steps, and a dry run that resamples little."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import KNOWN, Lab, fsseg, succeed
from tiny import tiny_network
from torch import Tensor

from fsseg.adaptation import cost as adaptation_cost
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.pretraining import cost as pretraining_cost
from fsseg.pretraining.step_times import validation_seconds
from fsseg.training import memory
from fsseg.training.activation_checkpointing import checkpointed
from fsseg.training.cost import BatchClock, expected_step_mib, kept_for_backward, mib_of
from fsseg.training.cost_advice import Demand, PlannedStep, Remedies, advice, said
from fsseg.training.losses import PUBLISHED_LOSSES
from fsseg.training.processes import Processes

SHAPE = (2, 1, 32, 32, 32)
COST = {"seconds_per_step", "hours", "memory_mib", "host_memory_mib", "host_available_mib", "device_available_mib"}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_expected_memory_is_what_a_step_keeps(checkpointing: bool) -> None:
    network = tiny_network("plain").train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = expected_step_mib(network, SHAPE, dtype=torch.float32, checkpoint_activations=checkpointing)
    with checkpointed(network, enabled=checkpointing), kept_for_backward(network) as kept:
        output = network(torch.randn(SHAPE))
        held = kept() + 4 * mib_of(network.parameters())
    del output
    assert expected == pytest.approx(held, rel=0.2)
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("loss", ["multitalent", "uniseg"])
def test_the_expected_memory_counts_the_loss(loss: str) -> None:
    network, computed = tiny_network("plain").train(), PUBLISHED_LOSSES[loss]

    def compute_loss(logits: Tensor) -> Tensor:
        empty = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        return computed(logits, empty, empty)

    expected = expected_step_mib(network, SHAPE, dtype=torch.float32, compute_loss=compute_loss)
    with kept_for_backward(network) as kept:
        value = compute_loss(network(torch.randn(SHAPE)))
        held = kept() + 4 * mib_of(network.parameters())
    del value
    assert expected == pytest.approx(held, rel=0.02)
    assert expected > 1.02 * expected_step_mib(network, SHAPE, dtype=torch.float32)


def test_frozen_weights_have_neither_gradient_nor_moments() -> None:
    network = tiny_network("plain").train().requires_grad_(False)
    assert expected_step_mib(network, SHAPE, dtype=torch.float32) == pytest.approx(mib_of(network.parameters()))


def test_a_clock_tells_preparing_from_computing() -> None:
    clock = BatchClock()
    batches: list[dict[str, Tensor]] = [{}, {}, {}]
    for number, _ in enumerate(clock.timed(batches)):
        if number == 1:
            break
    assert (len(clock.loading), len(clock.computing)) == (2, 2)


def test_free_memory_is_that_within_the_limits_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "groups" / "slurm" / "job"
    job.mkdir(parents=True)
    gib = 1024**3
    for folder, limit in ((job, "max"), (job.parent, str(4 * gib))):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{3 * gib}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {gib}\n")
    process = tmp_path / "self"
    process.mkdir()
    (process / "cgroup").write_text("0::/slurm/job\n")
    (process / "statm").write_text("0 2560 0 0 0 0 0\n")  # pages: 10 MiB
    files = [(tmp_path / "groups", *memory._FILES[0][1:])]
    for name, value in (("_PROCESS", process), ("_FILES", files)):
        monkeypatch.setattr(memory, name, value)
    assert memory.host_available_mib() == pytest.approx(2048 + 10)
    assert memory.host_available_mib(processes=3) == pytest.approx(2048 + 30)
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "no_linux")
    assert memory.host_available_mib() is None


def test_a_shortage_names_what_is_needed_and_what_is_free() -> None:
    demand = Demand(step_mib=2048, host_mib=17408, host_available_mib=8192)
    assert demand.shortages() == [
        "This training takes about 17.0 GiB of the host's memory, but 8.0 GiB are free for it."
    ]
    assert Demand(step_mib=1, host_mib=1, host_available_mib=None).shortages() == []
    of_device = Demand(1, 1, 9, device_mib=20480, device_available_mib=10240).shortages()
    assert "20.0 GiB of the CUDA device's memory, but 10.0 GiB" in of_device[0]


def test_advice_names_what_saves_and_how_much() -> None:
    ways = [("checkpointed activations", 1024), ("a batch of one", 4000), ("a smaller patch", 512)]
    assert advice(4096, ways) == [
        "A step takes about 4.0 GiB. Less takes:",
        "  checkpointed activations: about 1.0 GiB a step",
        "  a smaller patch: about 0.5 GiB a step",
    ]
    assert advice(4096, ways[1:2]) == []


@pytest.mark.parametrize("checkpointing", ["checkpoint=true", None])
def test_a_planned_step_names_what_its_command_has(monkeypatch: pytest.MonkeyPatch, checkpointing: str | None) -> None:
    monkeypatch.setattr("fsseg.training.cost_advice.has_bfloat16", lambda _: True)
    step = PlannedStep(tiny_network("plain").train(), 1, (32, 32, 32), 2, torch.device("cpu"), "auto")
    lines = step.less(Remedies(checkpointing, "bfloat", "batch 1", "patch {patch}"))
    ways = ["bfloat, in half the time or less", "batch 1", "patch 16 16 16"]
    named = [line.strip().rpartition(": about ")[0] for line in lines[1:]]
    assert named == [way for way in [checkpointing, *ways] if way is not None]


def test_advice_is_given_where_memory_is_short_or_the_training_long() -> None:
    assert said(["short"], ["less"]) == ["short", "less"]
    assert said([], ["less"], hours=100) == ["less"]
    assert said([], ["less"], hours=1) == []


@pytest.mark.parametrize("method", ["lora", "linear_probe", "prototype"])
def test_a_dry_run_tells_the_cost_and_resamples_one_case_of_large_structures(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("fsseg.adaptation.prepare.CACHE_NAME", "no_cache")
    monkeypatch.setattr("fsseg.adaptation.support._SAFE_VOXELS", 1)
    made: list[str] = []
    volume = CasePreprocessor.volume
    monkeypatch.setattr(CasePreprocessor, "volume", lambda self, case, *w: made.append(case) or volume(self, case, *w))
    words = lab.adapt_words(tmp_path / "run", "--structure", KNOWN, "--estimate", "loo", method=method)
    cost = succeed(*words, "--dry-run")
    assert cost.keys() >= COST
    assert (cost["trainings"], len(made)) == (3, 1)
    assert cost["hours"] >= 0
    assert ("feature_seconds_per_crop" in cost) == (method != "lora")
    assert cost["host_memory_mib"] >= cost["memory_mib"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_fit_is_warned_of_before_it_starts_and_not_tried_in_a_dry_run(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(adaptation_cost, "host_available_mib", lambda: 10.0)
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", "--dry-run"))
    assert outcome.code == 0, outcome.err
    assert "no step was measured, because it would not fit" in outcome.out
    assert "of the host's memory, but 10 MiB are free for it" in outcome.out
    assert "recipe.batch_size=1: about" in outcome.out
    assert "--patch-size 8 8 8" in outcome.out
    caplog.clear()
    assert fsseg(*lab.adapt_words(tmp_path / "run")).code == 0  # it may swap: the user decides
    assert "of the host's memory, but 10 MiB are free for it" in caplog.text


def test_a_pretraining_that_cannot_fit_is_warned_of_before_it_starts_and_not_tried_in_a_dry_run(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pretraining_cost, "host_available_mib", lambda _: 10.0)
    for name in ("train_step", "run_training"):
        monkeypatch.setattr(nnUNetTrainerPartialLabel, name, fail)
    words = lab.pretrain_words(tmp_path / "run")
    outcome = fsseg(*words, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "no step was measured, because it would not fit" in outcome.out
    fsseg(*words)  # it may swap: the user decides
    for text in (outcome.out, caplog.text):
        assert "of the host's memory, but 10 MiB are free for it" in text
        assert "batch_size 1 in the plans with --set accumulate=2, as many crops a step: about" in text
        assert "patch_size 8 8 8 in the plans: about" in text
        assert "checkpoint" not in text.replace("MiB checkpoints", "")


def test_a_validation_takes_all_its_batches_forward_only() -> None:
    class Trainer:
        num_val_iterations_per_epoch = 25
        do_split = staticmethod(lambda: (["a"], ["b"]))
        crops = SimpleNamespace(validation=lambda cases, count: [{"image": torch.zeros(1)}] * count if cases else [])
        taken, evaluated = 0, False

        def on_validation_epoch_start(self) -> None:
            self.evaluated = True

        def validation_step(self, _: dict[str, Tensor]) -> None:
            assert self.evaluated
            assert not torch.is_grad_enabled()
            self.taken += 1
            time.sleep(0.02)

    trainer = Trainer()
    assert validation_seconds(trainer) == pytest.approx(25 * 0.02, abs=0.4)
    assert trainer.taken == 2
    trainer.do_split = lambda: (["a"], [])
    assert validation_seconds(trainer) == 0


def test_the_process_that_has_it_worst_decides_for_all() -> None:
    class Others(Processes):
        def highest(self, number: int, device: torch.device) -> int:
            return max(number, -7 if number < 0 else 12)  # of another process: 7 MiB free, 12 needed

    demand = Demand(step_mib=1.5, host_mib=9.2, host_available_mib=100.0)
    worst = pretraining_cost._worst(demand, Others(0, 2), torch.device("cpu"))
    assert worst == Demand(step_mib=1.5, host_mib=12, host_available_mib=7)
    assert worst.shortages()


def test_the_header_is_printed_before_the_training(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fsseg.adaptation.fitted.train", fail)
    words = lab.adapt_words(tmp_path / "run", "--cases", lab.case(0), lab.case(1))
    stopped = fsseg(*words)
    assert f"from 2 cases: {lab.case(0)}, {lab.case(1)}" in stopped.err
    assert stopped.out == ""
