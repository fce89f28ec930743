"""The datasets and bases of a table: phantoms written, data assembled, bases pretrained or imported; each once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fsseg.config.errors import UsageError, require_known
from fsseg.config.run_folder import new_run_folder
from fsseg.config.shipped_files import PLANS, SPECS, Shipped, find_file
from fsseg.demo.files import PLANS as PHANTOM_PLANS
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.experiments.table_file import ImportedBase, Phantoms, PretrainedBase, TableDataset, TableFile
from fsseg.experiments.workspace import Workspace
from fsseg.stages.assemble import AssembleConfig, run_assemble
from fsseg.stages.import_checkpoint import ImportConfig, run_import
from fsseg.stages.preprocess import PreprocessConfig, run_preprocess
from fsseg.stages.pretrain import PretrainConfig, run_pretrain


@dataclass(frozen=True)
class Preparation:
    """Makes what the runs of a table start from, inside nnU-Net's folders of its workspace.

    Attributes:
        table: the table.
        file: its file, beside which specs and plans are looked for.
        place: the workspace.
        device: where to pretrain.
    """

    table: TableFile
    file: Path
    place: Workspace
    device: str

    def missing(self, bases: Iterable[str]) -> list[str]:
        """Return the checkpoints that are not there, with the page where a person gets them."""
        imported = [base for name in bases if (base := self.table.bases[name].imported)]
        return [
            f"{self.place.checkpoint(base)} (get it from {base.page})"
            for base in imported
            if not self.place.checkpoint(base).is_file()
        ]

    def make(self, bases: Iterable[str]) -> None:
        """Make the dataset that is adapted to, and the bases.

        Raises:
            UsageError: a checkpoint, a spec or plans are missing.
            FssegError: data or a checkpoint cannot be used.
        """
        missing = self.missing(bases)
        if missing:
            raise UsageError("Checkpoints are missing:\n" + "\n".join(f"  - {line}" for line in missing))
        if self.table.phantoms is not None:
            self._write_phantoms(self.table.phantoms)
        self._assemble(self.table.datasets[self.table.dataset])
        for name in bases:
            base = self.table.bases[name]
            if base.pretrained is not None:
                self._pretrain(name, base.pretrained)
            elif base.imported is not None:
                self._import(name, base.imported)

    def _write_phantoms(self, wanted: Phantoms) -> None:
        root = self.place.root
        if root.is_dir():
            return
        self.place.out.mkdir(parents=True, exist_ok=True)
        with new_run_folder(root) as staging:
            write_phantom_datasets(
                staging, seed=wanted.seed, cases_per_source=wanted.cases_per_source, target_cases=wanted.target_cases
            )

    def _assemble(self, dataset: TableDataset) -> None:
        if self.place.dataset(dataset).is_dir():
            return
        specs = tuple(self._spec(name) for name in dataset.specs)
        run_assemble(AssembleConfig(specs=specs, root=self.place.root, dataset_id=dataset.id, name=dataset.name))

    def _spec(self, name: str) -> Path:
        if self.table.phantoms is None:
            return self._found(name, SPECS)
        written = {spec.stem: spec for spec in self.place.root.glob("*.yaml")}
        require_known("spec", [name], written, "The table is made on phantoms, which have these.")
        return written[name]

    def _found(self, word: str, kind: Shipped) -> Path:
        """Return the file beside the table, or the shipped one of that name."""
        beside = self.file.parent / word
        return beside if beside.is_file() else find_file(word, kind)

    def _pretrain(self, name: str, base: PretrainedBase) -> None:
        dataset = self.table.datasets[base.dataset]
        self._assemble(dataset)
        out = self.place.base(self.table, name)  # only now is it known what the dataset holds
        if out.is_dir():
            return
        plans = PHANTOM_PLANS if base.plans == PHANTOM_PLANS.stem else self._found(base.plans, PLANS)
        if not (self.place.preprocessed / self.place.dataset(dataset).name / f"{plans.stem}.json").is_file():
            run_preprocess(PreprocessConfig(dataset=str(dataset.id), plans=str(plans)))
        run_pretrain(
            PretrainConfig(
                dataset=str(dataset.id),
                plans=plans.stem,
                out=out,
                settings=base.settings,
                device=self.device,
                resume=True,
            )
        )

    def _import(self, name: str, base: ImportedBase) -> None:
        out = self.place.base(self.table, name)
        if not out.is_dir():
            file = self.place.checkpoint(base)
            run_import(ImportConfig(file=file, out=out, family=base.family, stem=base.stem, device=self.device))
