"""What a training will cost, as text: of an adaptation and of a pretraining."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsseg.adaptation.cost import AdaptationCost
    from fsseg.pretraining.cost import PretrainingCost
    from fsseg.training.cost_advice import Demand

_UNMEASURED = "no step was measured, because it would not fit into free memory"


def _memory_text(demand: "Demand") -> str:
    """Return what a step and the host take, against what is free."""
    cost = demand.facts()
    host, device = cost["host_available_mib"], cost["device_available_mib"]
    of_device = "" if device is None else f" of {device:,.0f} free on the device"
    of_host = "" if host is None else f" of {host:,.0f} free for it"
    return (
        f"memory: {cost['memory_mib']:,.0f} MiB for a step{of_device}, {cost['host_memory_mib']:,.0f} MiB on the host"
        f"{of_host}"
    )


def adaptation_text(cost: "AdaptationCost") -> str:
    """Return time and memory of an adaptation, and what would take less where it matters."""
    return "\n".join([_adaptation_time(cost), _memory_text(cost.demand), *cost.advice])


def _adaptation_time(cost: "AdaptationCost") -> str:
    if cost.step is None:
        return _UNMEASURED
    trainings = "" if cost.trainings == 1 else f" in {cost.trainings} trainings, with leave-one-out"
    features = cost.step.feature_seconds_per_crop
    pool = "" if features is None else f", {features:.3g} s a crop to compute its features once"
    return f"{cost.step.seconds_per_step:.3g} s a step{pool}, at most {cost.hours:.3g} h in all{trainings}"


def pretraining_text(cost: "PretrainingCost") -> str:
    """Return time, memory and disk of a pretraining, and what would take less where it matters."""
    return "\n".join([_pretraining_time(cost), _memory_text(cost.demand), _disk_text(cost), *cost.advice])


def _pretraining_time(cost: "PretrainingCost") -> str:
    if cost.step is None:
        return _UNMEASURED
    loading = f"by {cost.workers} workers meanwhile" if cost.workers else "before it"
    step = cost.step.as_dict()
    return (
        f"{step['seconds_per_step']:.3g} s a step ({step['steps_per_second']:.3g} steps a second):"
        f" {step['network_seconds']:.3g} s for the network,"
        f" {step['loading_seconds']:.3g} s on one core to prepare the batch {loading};"
        f" {step['validation_seconds']:.3g} s for the validation after each epoch, {cost.epochs} in all;"
        f" {cost.hours:.3g} h in all"
    )


def _disk_text(cost: "PretrainingCost") -> str:
    return f"disk: {cost.preprocessed_mib:,.0f} MiB preprocessed data, {cost.checkpoints_mib:,.0f} MiB checkpoints"
