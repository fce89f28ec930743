"""An adaptation in the same process, for what lies between its command's words and its files."""

from collections.abc import Sequence

import torch
from conftest import KNOWN, NOVEL, Lab

from fsseg.adaptation.job import Job
from fsseg.adaptation.support import support_volumes
from fsseg.adaptation.target import LabelledDataset, make_target
from fsseg.config.recipes import HeadStart, Recipe
from fsseg.data.volumes import Volume
from fsseg.methods.registry import create_method
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import read_raw_dataset


def job_and_volumes(
    lab: Lab, method: str, cases: Sequence[int] = (0, 1), head: HeadStart = "base"
) -> tuple[Job, list[Volume]]:
    base = ModelFolder.read(lab.base)
    dataset = read_raw_dataset(lab.target)
    rows = base.head_rows() if head == "base" and create_method(method).uses_pretrained else {}
    target = make_target(LabelledDataset.of(dataset), (NOVEL, KNOWN), rows)
    volumes = support_volumes(dataset, target, [lab.case(i) for i in cases], CasePreprocessor(base, cache=None))
    return Job(base, target, create_method(method), "tuned", Recipe(max_steps=1), 0, torch.device("cpu")), volumes
