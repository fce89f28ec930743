"""A task: a job, the raw dataset that it is for, and which of its cases are support cases."""

from dataclasses import dataclass
from pathlib import Path

from fsseg.adaptation.job import Job, make_job
from fsseg.adaptation.target import LabelledDataset
from fsseg.config.adaptation import RunRequest
from fsseg.config.errors import UsageError, require_known
from fsseg.data.splits import Split, make_split, read_case_list, read_case_lists
from fsseg.nnunet.environment import dataset_folder, raw_folder
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset
from fsseg.training.seeding import resolve_device


@dataclass(frozen=True)
class Task:
    """What is adapted to which cases.

    Attributes:
        request: what was asked for.
        job: the adaptation.
        dataset: whose cases they are.
        split: support, pool and test cases.
        transductive: cases whose images take part in the training, without label maps.
    """

    request: RunRequest
    job: Job
    dataset: RawDataset
    split: Split
    transductive: tuple[str, ...] = ()


def make_task(request: RunRequest, base: ModelFolder | Path) -> Task:
    """Check what was asked for; no image is read.

    Args:
        request: what to adapt to what.
        base: the model, or its folder.

    Raises:
        UsageError: unknown structure, case, method or option; what does not go together; more shots than pool cases.
        FssegError: the dataset is incomplete, or a file of the base is damaged.
    """
    device = resolve_device(request.device)
    dataset = read_raw_dataset(dataset_folder(raw_folder(), request.dataset))
    job = make_job(request, base, LabelledDataset.of(dataset), device)
    split = make_split(
        dataset.cases,
        shots=request.shots,
        seed=request.seed,
        support=request.cases,
        duplicates=dataset.structures.duplicates,
        **read_case_lists(request.pool, request.test),
    )
    if request.estimate == "loo" and len(split.support) < 2:
        raise UsageError("--estimate loo holds out one support case at a time, so it needs at least 2 shots, got 1.")
    return Task(request, job, dataset, split, _transductive(request, job, dataset, split))


def _transductive(request: RunRequest, job: Job, dataset: RawDataset, split: Split) -> tuple[str, ...]:
    """Return the unlabelled cases that take part; raise `UsageError` where there can be none."""
    named = request.transductive
    if named is None:
        return ()
    cases = tuple(dict.fromkeys(read_case_list(named) if isinstance(named, Path) else named))
    require_known("transductive case", cases, tuple(dataset.every_image), "These are the images of imagesTr.")
    recipe = job.recipe.for_cases(split.shots)
    labelled = sorted({*cases} & {*split.support})
    problem = ""
    if labelled:
        problem = f"sees images without their label maps, but {', '.join(labelled)} are support cases"
    elif job.method.training_free:
        problem = f"adds steps to a training, but {job.method_name} sets the head without one"
    elif request.estimate == "loo":
        problem = "fits a network to certain images, so --estimate loo, which predicts others, says nothing of it"
    elif recipe.max_steps < recipe.size_first_epoch * recipe.epoch_steps:
        first = recipe.size_first_epoch * recipe.epoch_steps
        problem = (
            f"begins after step {first} (recipe.size_first_epoch), but the training ends at step {recipe.max_steps}"
        )
    if problem:
        raise UsageError(f"--transductive {problem}.\n  Change one of the two.")
    return cases
