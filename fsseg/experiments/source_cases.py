"""Which cases the sources of a dataset hold, and which of them a table names."""

from pathlib import Path

from fsseg.data.case_files import find_cases
from fsseg.data.specs import DatasetSpec
from fsseg.experiments.definition.table_file import TableFile


def cases_in(spec: DatasetSpec, root: Path) -> set[str]:
    """Return the cases of a source below `root`, named as in an assembled dataset; none where there is no folder."""
    folder = root / spec.folder
    found = find_cases(spec, folder).cases if folder.is_dir() else []
    return {f"{spec.name}_{files.case}" for files in found if files.case not in spec.exclude}


def named_cases(table: TableFile, dataset: str) -> set[str]:
    """Return the cases of a dataset that the targets of a table name in their lists."""
    targets = [target for target in table.targets.values() if target.dataset == dataset]
    return {case for target in targets for cases in target.lists for case in target.named(cases)}
