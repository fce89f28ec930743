"""The datasets and bases of a table: phantoms written, data assembled, bases pretrained or imported; each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsseg.config.errors import UsageError, require_known
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.config.run_folder import new_run_folder
from fsseg.config.shipped_files import PLANS, SPECS
from fsseg.data.conflicts import Channels
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.experiments.grid import BaseChoice
from fsseg.experiments.table_file import TableFile
from fsseg.experiments.table_sources import ImportedBase, Phantoms, PretrainedBase, TableDataset
from fsseg.experiments.workspace import Workspace
from fsseg.nnunet.model_checkpoints import checkpoint_file
from fsseg.stages.assemble import AssembleConfig, run_assemble
from fsseg.stages.import_checkpoint import ImportConfig, run_import
from fsseg.stages.preprocess import PreprocessConfig, run_preprocess
from fsseg.stages.pretrain import PretrainConfig, run_pretrain


@dataclass(frozen=True)
class Preparation:
    """Makes what the runs of a table start from, inside nnU-Net's folders of its workspace.

    Attributes:
        table: the table.
        place: the workspace.
        device: where to pretrain.
    """

    table: TableFile
    place: Workspace
    device: str

    def make(self, bases: Sequence[BaseChoice], datasets: Iterable[str]) -> None:
        """Make the datasets that are adapted to, and the bases.

        Raises:
            UsageError: a spec or plans are missing.
            FssegError: data or a checkpoint cannot be used.
        """
        if self.table.phantoms is not None:
            self._write_phantoms(self.table.phantoms)
        for name in datasets:
            self._assemble(self.table.datasets[name])
        for choice in bases:
            base = self.table.bases[choice.name]
            if base.pretrained is not None:
                self._pretrain(choice, base.pretrained.changed(choice.pretrain))
            elif base.imported is not None:
                self._import(choice, base.imported)

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
        specs, folder = tuple(self._spec(name) for name in dataset.specs), self.place.dataset(dataset)
        if folder.is_dir():
            self._require_made_of(specs, dataset.channels, folder)
            return
        root, number, name = self.place.root, dataset.id, dataset.name
        run_assemble(AssembleConfig(specs=specs, root=root, dataset_id=number, name=name, channels=dataset.channels))

    def _require_made_of(self, specs: Sequence[Path], channels: Channels, folder: Path) -> None:
        """Raise `UsageError` if a dataset of this number and name was assembled from something else."""
        made = read_json(folder / MANIFEST_NAME, keys=("config",))["config"]
        root = Path(made["root"]).resolve()
        there = ([Path(spec).stem for spec in made["specs"]], root, made.get("channels", "merged"))
        asked = ([spec.stem for spec in specs], self.place.root.resolve(), channels)
        if there != asked:
            raise UsageError(
                f"{folder} was assembled from other specs or another folder, or with other channels.\n"
                f"  there: {_made_of(*there)}\n"
                f"  asked: {_made_of(*asked)}\n"
                "  Choose another --out, or another number or name in the table."
            )

    def _spec(self, name: str) -> Path:
        if self.table.phantoms is None:
            return self.place.found(name, SPECS)
        written = {spec.stem: spec for spec in self.place.root.glob("*.yaml")}
        require_known("spec", [name], written, "The table is made on phantoms, which have these.")
        return written[name]

    def _pretrain(self, choice: BaseChoice, base: PretrainedBase) -> None:
        dataset = self.table.datasets[base.dataset]
        self._assemble(dataset)
        out = self.place.base(self.table, choice)  # only now is it known what the dataset holds
        if out.is_dir():
            return
        plans = self.place.found(base.plans, PLANS)
        if not (self.place.preprocessed / self.place.dataset(dataset).name / f"{plans.stem}.json").is_file():
            run_preprocess(PreprocessConfig(dataset=str(dataset.id), plans=str(plans)))
        run_pretrain(
            PretrainConfig(
                dataset=str(dataset.id),
                plans=plans.stem,
                out=out,
                settings=base.all_settings(f"the pretraining of base {choice.name!r}"),
                recipe=base.recipe,
                fold=base.fold,
                device=self.device,
                resume=True,
            )
        )

    def _import(self, choice: BaseChoice, base: ImportedBase) -> None:
        file = self.place.checkpoint(base) if base.base is None else checkpoint_file(self._made(base.base))
        out = self.place.base(self.table, choice)
        if out.is_dir():
            return
        plans = self.place.found(base.plans, PLANS) if base.plans else None
        run_import(
            ImportConfig(
                file=file,
                out=out,
                family=base.family,
                stem=base.stem,
                channels=base.channels,
                plans=plans,
                device=self.device,
            )
        )

    def _made(self, name: str) -> Path:
        """Return the model folder of a pretrained base, which is made where it is not there yet."""
        choice, base = BaseChoice(name), self.table.bases[name].pretrained
        assert base is not None  # the table was checked
        self._pretrain(choice, base)
        return self.place.base(self.table, choice)


def _made_of(specs: Iterable[str], root: Path, channels: Channels) -> str:
    return f"{', '.join(specs)} of {root}, channels {channels}"
