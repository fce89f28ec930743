"""The datasets and bases of a table: phantoms written, data assembled, bases pretrained or imported; each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsseg.config.errors import UsageError, require_known, shown
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME
from fsseg.config.run_folder import new_run_folder
from fsseg.config.shipped_files import PLANS, SPECS
from fsseg.data.spec_loading import load_spec
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.experiments.definition.grid import BaseChoice
from fsseg.experiments.definition.sources import ImportedBase, Phantoms, PretrainedBase
from fsseg.experiments.definition.table_file import TableFile
from fsseg.experiments.source_cases import cases_in, named_cases
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
            self._assemble(name)
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

    def _assemble(self, name: str) -> None:
        dataset = self.table.datasets[name]
        specs, folder = tuple(self._spec(word) for word in dataset.specs), self.place.dataset(dataset)
        config = AssembleConfig(
            specs=specs,
            root=self.place.root,
            dataset_id=dataset.id,
            name=dataset.name,
            channels=dataset.channels,
            cases=self._named_there(name, specs) if dataset.only_named else None,
        )
        if folder.is_dir():
            _require_made_by(config, folder)
        else:
            run_assemble(config)

    def _named_there(self, name: str, specs: Sequence[Path]) -> tuple[str, ...]:
        """Return the cases that the table names, of those that are there: what needs others cannot run anyway."""
        there = {case for spec in specs for case in cases_in(load_spec(spec), self.place.root)}
        return tuple(sorted(named_cases(self.table, name) & there))

    def _spec(self, name: str) -> Path:
        if self.table.phantoms is None:
            return self.place.found(name, SPECS)
        written = {spec.stem: spec for spec in self.place.root.glob("*.yaml")}
        require_known("spec", [name], written, "The table is made on phantoms, which have these.")
        return written[name]

    def _pretrain(self, choice: BaseChoice, base: PretrainedBase) -> None:
        dataset = self.table.datasets[base.dataset]
        self._assemble(base.dataset)
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


def _require_made_by(config: AssembleConfig, folder: Path) -> None:
    """Raise `UsageError` if a dataset of this number and name was assembled from something else."""
    made = AssembleConfig.model_validate(read_json(folder / MANIFEST_NAME, keys=("config",))["config"])
    there, asked = _made_of(made), _made_of(config)
    if there != asked:
        raise UsageError(
            f"{folder} was assembled from other specs, cases or another folder, or with other channels.\n"
            f"  there: {', '.join(there)}\n"
            f"  asked: {', '.join(asked)}\n"
            "  Choose another --out, or another number or name in the table."
        )


def _made_of(config: AssembleConfig) -> list[str]:
    root = config.root.resolve() if config.root else None
    specs = [spec.stem for spec in config.specs]
    cases = "all cases" if config.cases is None else f"{len(config.cases)} cases ({shown(config.cases)})"
    return [*specs, f"of {root}", cases, f"channels {config.channels}"]
