"""`fsseg adapt` as a trainer of nnU-Net's own commands."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsseg.adaptation.fitted import FittedNetwork, fit_network
from fsseg.adaptation.job import Job, make_job
from fsseg.adaptation.notes import start_notes, urgent_notes
from fsseg.adaptation.run_files import write_fitted
from fsseg.adaptation.start import Start, make_start
from fsseg.adaptation.support import support_of
from fsseg.adaptation.target import LabelledDataset
from fsseg.config.errors import UsageError
from fsseg.config.few_shot import few_shot_settings
from fsseg.config.json_files import read_json, write_json
from fsseg.data.splits import SUPPORT_KEY
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import create_method
from fsseg.models.networks import build_network
from fsseg.nnunet.checkpoint_file import CHECKPOINT_NAME, LATEST_NAME, STOCK_TRAINER, save_checkpoint
from fsseg.nnunet.configurations import deciding_settings
from fsseg.nnunet.few_shot.log import EpochLog
from fsseg.nnunet.few_shot.trainer import FewShotTrainer
from fsseg.nnunet.model_folder import TILE_STEP_KEY, ModelFolder
from fsseg.prediction.load_adapted import base_differences
from fsseg.training.fit_checkpoint import FitCheckpoint, fingerprint_of

_AGAIN = "Make the plans again with `fsseg nnunet plans`."


class nnUNetTrainerFewShot(FewShotTrainer):  # noqa: N801 - nnU-Net finds trainers by this spelling
    """Adapt a base to a few cases by the plans that `fsseg nnunet plans` writes.

    A method that merges leaves a checkpoint of nnU-Net's plain trainer. One that does not names this class, which
    rebuilds its network at prediction.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature, read by introspection
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.job = self._job(plans, configuration, dataset_json)
        self.structures = self.job.target.structures
        self.dataset_json = self.job.model().dataset_json
        self.label_manager = self.plans_manager.get_label_manager(self.dataset_json)
        self.inference_allowed_mirroring_axes = self.job.flips.axes or None

    def _job(self, plans: dict, configuration: str, dataset_json: dict) -> Job:
        base = ModelFolder.read(self.settings.checkpoint)
        if base.sha256 != self.settings.base_sha256:
            raise UsageError(
                f"{self.settings.checkpoint} is not the base that the plans were made for.\n"
                f"{base_differences(base, self.settings.base_sha256, deciding_settings(plans, configuration))}\n"
                f"  {_AGAIN}"
            )
        dataset = LabelledDataset("the preprocessed dataset", dataset_json, self.annotated)
        try:
            return make_job(self.settings, base, dataset, self.device)
        except UsageError as error:
            raise UsageError(f"{error}\n  {_AGAIN}") from None

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the adapted network of a method that does not merge, for its checkpoint to be loaded into."""
        settings = few_shot_settings(plans_manager.plans)
        network = build_network(
            configuration_manager.configuration["architecture"],
            input_channels=num_input_channels,
            output_channels=num_output_channels,
            deep_supervision=False,
        )
        method = create_method(settings.method, settings.method_options)
        return AdaptedNetwork(network, method, settings.decoder).network

    def adapt(self, volumes: list[Volume]) -> None:
        """Adapt, and write checkpoint, adapter and losses."""
        support = support_of(self.job, volumes)
        start = make_start(self.job, support.volumes)
        self.network = start.network.network
        self._write_dataset_json(start)
        for note in [*urgent_notes(start), *support.notes, *start_notes(start)]:
            self.print_to_log_file(note)
        facts = {**self.settings.model_dump(mode="json"), **self.job.decides()}
        checkpoint = FitCheckpoint(self.fold_folder / LATEST_NAME, fingerprint_of(facts, volumes))
        log = EpochLog(self.fold_folder, self.print_to_log_file, self.job.recipe.for_cases(len(volumes)).epoch_steps)
        fitted = fit_network(start, f"adapt {self.job.method_name}", checkpoint, log)
        log.close(plateau=fitted.training.plateau)
        for note in fitted.silent:
            self.print_to_log_file(note)
        write_fitted(self.fold_folder, fitted)
        self._save(fitted)
        checkpoint.remove()

    def _write_dataset_json(self, start: Start) -> None:
        """Write dataset.json, one for all folds, with the support cases of all of them."""
        file = Path(str(self.output_folder_base)) / "dataset.json"
        of_others = read_json(file).get(SUPPORT_KEY, ()) if file.is_file() else ()
        support = sorted({*start.cases, *of_others})
        self.dataset_json = self.job.model(support, start.left_random).dataset_json
        write_json(file, self.dataset_json)

    def _save(self, fitted: FittedNetwork) -> None:
        network = fitted.start.network
        save_checkpoint(
            self.fold_folder / CHECKPOINT_NAME,
            network.merged_state_dict() if fitted.merges else network.network.state_dict(),
            self.configuration_name,
            self.inference_allowed_mirroring_axes,
            trainer_name=STOCK_TRAINER if fitted.merges else type(self).__name__,
            **{TILE_STEP_KEY: self.job.recipe.tile_step_size},
        )
