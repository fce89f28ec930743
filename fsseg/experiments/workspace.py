"""Where the files of tables lie: one working folder, in which tables that share runs share them."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME, sha256_of_file
from fsseg.config.shipped_files import PLANS, Shipped, find_file
from fsseg.evaluation.fseft import Protocol
from fsseg.experiments.definition.grid import BaseChoice, Cell
from fsseg.experiments.definition.sources import ImportedBase, TableDataset
from fsseg.experiments.definition.table_file import TableFile

_KEY_LETTERS = 16
_OF_THE_RUN = "run"

Facts = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """The files of one cell: complete when the metrics of every scoring protocol are there.

    Attributes:
        path: the folder.
        protocols: scoring protocols of the table besides the native one.
    """

    path: Path
    protocols: tuple[Protocol, ...] = ()

    @property
    def adaptation(self) -> Path:
        """Run folder of the adaptation."""
        return self.path / _OF_THE_RUN

    @property
    def predictions(self) -> Path:
        """Label maps of the test cases."""
        return self.path / "predictions"

    @property
    def metrics(self) -> Path:
        """The CSV that the run ends with."""
        return self.path / "metrics.csv"

    @property
    def other_metrics(self) -> dict[Protocol, Path]:
        """The CSV of each further protocol."""
        return {protocol: self.path / f"metrics_{protocol}.csv" for protocol in self.protocols}

    @property
    def failure(self) -> Path:
        """The message of a run that failed."""
        return self.path / "failed.txt"

    @property
    def details(self) -> Path:
        """The traceback of a run that failed for no reason that fsseg knows."""
        return self.path / "failed_details.txt"

    @property
    def is_done(self) -> bool:
        """Whether the run has its metrics."""
        return all(file.is_file() for file in (self.metrics, *self.other_metrics.values()))

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the adaptation; empty where the base was scored as it is."""
        file = self.adaptation / MANIFEST_NAME
        return read_json(file) if file.is_file() else {}


@dataclass(frozen=True)
class Workspace:
    """The working folder.

    Attributes:
        out: the folder.
        root: folder with the data and checkpoints that the table names.
        beside: folder of the table, in which specs and plans are looked for first.
    """

    out: Path
    root: Path
    beside: Path

    @property
    def raw(self) -> Path:
        """nnUNet_raw of the tables."""
        return self.out / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        """nnUNet_preprocessed of the tables."""
        return self.out / "nnUNet_preprocessed"

    def dataset(self, dataset: TableDataset) -> Path:
        """Return the folder of an assembled dataset."""
        return self.raw / f"Dataset{dataset.id:03d}_{dataset.name}"

    def base(self, table: TableFile, choice: BaseChoice) -> Path:
        """Return the model folder of a base, which is named by what decides it."""
        return self.out / "bases" / f"{choice.name}_{_key(self._base_facts(table, choice))}"

    def run(self, table: TableFile, cell: Cell) -> RunFolder:
        """Return the folder of a cell's run: cells with equal facts share it, whatever their table."""
        return RunFolder(self.out / "runs" / _key(self._run_facts(table, cell)), table.scoring.protocols)

    def _run_facts(self, table: TableFile, cell: Cell) -> Facts:
        target = table.targets[cell.target]
        pool = target.pool and [*target.named(target.pool.names or ()), target.pool.first, target.pool.last]
        test = [*target.named(target.test.names or ()), target.test.first, target.test.last]
        test += ["held out"] if target.test.held_out else []
        return {
            "base": self._base_facts(table, cell.base),
            "dataset": self._dataset_facts(table.datasets[target.dataset]),
            "settings": cell.settings.model_dump(mode="json", exclude_none=True),
            "cases": cell.cases,
            "pool": None if cell.cases else pool,  # nothing is drawn from it
            "test": test,
            **({"transductive": True} if cell.transductive else {}),
            "scoring": table.scoring.model_dump(exclude_none=True, exclude={"protocols"}),  # those are added to a run
        }

    def _base_facts(self, table: TableFile, choice: BaseChoice) -> Facts:
        base = table.bases[choice.name]
        if base.pretrained is not None:
            changed = base.pretrained.changed(choice.pretrain)
            return {
                "settings": changed.all_settings(choice.name).model_dump(mode="json", exclude_none=True),
                "fold": changed.fold,
                "plans": changed.plans,
                "plans_sha256": _hash_of(self.found(changed.plans, PLANS)),
                "dataset": self._dataset_facts(table.datasets[changed.dataset]),
            }
        assert base.imported is not None
        return {**self._source_facts(table, base.imported), **self._import_facts(base.imported)}

    def _source_facts(self, table: TableFile, base: ImportedBase) -> Facts:
        if base.base is not None:
            return {"base": self._base_facts(table, BaseChoice(base.base))}
        file = self.checkpoint(base)
        return {"sha256": _hash_of(file)} if file.is_file() else {"file": base.file}

    def _import_facts(self, base: ImportedBase) -> Facts:
        plans = {"plans_sha256": _hash_of(self.found(base.plans, PLANS))} if base.plans else {}
        channels = {"channels": base.channels} if base.channels else {}
        return {"family": base.family, "stem": base.stem, **plans, **channels}

    def checkpoint(self, base: ImportedBase) -> Path:
        """Return the file that an imported base is made from, where that is no other base."""
        return self.root / (base.file or "")

    def found(self, word: str, kind: Shipped) -> Path:
        """Return the file beside the table, or the shipped one of that name."""
        beside = self.beside / word
        return beside if beside.is_file() else find_file(word, kind)

    def _dataset_facts(self, dataset: TableDataset) -> Facts:
        """Return what an assembled dataset is: its sources' hashes; before it is assembled, what it is to be."""
        manifest = self.dataset(dataset) / MANIFEST_NAME
        if not manifest.is_file():
            return dataset.model_dump(mode="json", exclude={"case_mm"})
        facts = {"sources": _sources(manifest, manifest.stat().st_mtime_ns), "id": dataset.id, "name": dataset.name}
        return facts if dataset.channels == "merged" else {**facts, "channels": dataset.channels}


def _hash_of(file: Path) -> str:
    return _hash_at(file, file.stat().st_mtime_ns)


@cache  # every cell asks, and checkpoints are large
def _hash_at(file: Path, _changed_ns: int) -> str:
    return sha256_of_file(file)


@cache
def _sources(manifest: Path, _changed_ns: int) -> str:
    """Return a hash of the specs, images and label maps that a dataset was assembled from, wherever they lay."""
    content = read_json(manifest, keys=("inputs", "case_sha256"))
    return _key({"specs": sorted(content["inputs"].values()), "cases": content["case_sha256"]})


def _key(facts: Facts) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY_LETTERS]
