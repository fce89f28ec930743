"""`fsseg adapt` as a trainer of nnU-Net's own commands."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsseg.adaptation.base_gaps import left_random
from fsseg.adaptation.job import Job, build_adapted, make_target, require_classes, require_rate
from fsseg.adaptation.notes import notes_of, urgent_notes
from fsseg.adaptation.run_files import adapter_info, write_losses
from fsseg.adaptation.support_cases import labels_of, negative_notes, require_learnable
from fsseg.adaptation.support_check import silent_notes
from fsseg.adaptation.training import train
from fsseg.checkpoints.base_channels import require_channels
from fsseg.config.errors import UsageError, require_known
from fsseg.config.few_shot import few_shot_settings
from fsseg.config.json_files import read_json, write_json
from fsseg.data.channels import channel_names
from fsseg.data.splits import SUPPORT_KEY
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork, require_decoder_choice
from fsseg.methods.adapter_file import save_adapter
from fsseg.methods.registry import create_method
from fsseg.models.networks import build_network
from fsseg.nnunet.checkpoint_file import CHECKPOINT_NAME, LATEST_NAME, STOCK_TRAINER, save_checkpoint
from fsseg.nnunet.configurations import deciding_settings
from fsseg.nnunet.few_shot.log import EpochLog
from fsseg.nnunet.few_shot.trainer import FewShotTrainer
from fsseg.nnunet.model_folder import TILE_STEP_KEY, ModelFolder
from fsseg.prediction.load_adapted import base_differences
from fsseg.training.fit_checkpoint import FitCheckpoint, fingerprint_of
from fsseg.training.placement import require_precision


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
        settings = self.settings
        base = ModelFolder.read(settings.checkpoint)
        if base.sha256 != settings.base_sha256:
            raise UsageError(
                f"{settings.checkpoint} is not the base that the plans were made for.\n"
                f"{base_differences(base, settings.base_sha256, deciding_settings(plans, configuration))}\n"
                "  Make them again with `fsseg nnunet plans`."
            )
        require_channels(base, channel_names(dataset_json), "the preprocessed dataset", _remedy)
        require_known("structure", settings.structures, self.annotated.names, "The dataset annotates the allowed ones.")
        method = create_method(settings.method, settings.method_options)
        target = make_target(
            base,
            dataset_json,
            self.annotated,
            settings.structures,
            head=settings.head,
            uses_pretrained=method.uses_pretrained,
        )
        require_rate(settings.recipe, method)
        require_precision(self.device, settings.recipe.precision)
        decoder = require_decoder_choice(method, settings.decoder)
        self.job = Job(base, target, method, decoder, settings.recipe, settings.seed, self.device)
        self.structures = target.structures
        self.dataset_json = self.job.model().dataset_json
        self.label_manager = self.plans_manager.get_label_manager(self.dataset_json)
        self.inference_allowed_mirroring_axes = self.job.flips.axes or None

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
        if self.job.recipe.activation == "softmax":
            require_classes(self.job.target, [volume.case for volume in volumes])
        labels = [labels_of(volume, self.job.target) for volume in volumes]
        require_learnable(labels, self.job.target, self.configuration_manager.spacing)
        adapted = build_adapted(self.job, volumes)
        self.network = adapted.network
        file = Path(str(self.output_folder_base)) / "dataset.json"  # one for all folds
        of_others = read_json(file).get(SUPPORT_KEY, ()) if file.is_file() else ()
        support = {*(volume.case for volume in volumes), *of_others}
        self.dataset_json = self.job.model(sorted(support), left_random(self.job.base, adapted)).dataset_json
        write_json(file, self.dataset_json)
        negative = negative_notes(labels, self.job.target)
        for note in [*urgent_notes(self.job.base, adapted), *negative, *notes_of(self.job, adapted)]:
            self.print_to_log_file(note)
        facts = {**self.settings.model_dump(mode="json"), **self.job.decides()}
        checkpoint = FitCheckpoint(self.fold_folder / LATEST_NAME, fingerprint_of(facts, volumes))
        log = EpochLog(self.fold_folder, self.print_to_log_file, self.job.recipe.for_cases(len(volumes)).epoch_steps)
        result = train(self.job, adapted, volumes, f"adapt {self.settings.method}", checkpoint, log)
        log.close(plateau=result.plateau)
        for note in silent_notes(self.job, adapted, volumes):
            self.print_to_log_file(note)
        write_losses(self.fold_folder, result)
        cases = [volume.case for volume in volumes]
        info = adapter_info(self.settings.method, self.job, adapted, cases, result)
        save_adapter(self.fold_folder, adapted.compact_state(), info)
        merges = not adapted.method.not_merged_because
        save_checkpoint(
            self.fold_folder / CHECKPOINT_NAME,
            adapted.merged_state_dict() if merges else adapted.network.state_dict(),
            self.configuration_name,
            self.inference_allowed_mirroring_axes,
            trainer_name=STOCK_TRAINER if merges else type(self).__name__,
            **{TILE_STEP_KEY: self.job.recipe.tile_step_size},
        )
        checkpoint.remove()


def _remedy(channels: str) -> str:
    return f"Import the base with --channels {channels}, and make the plans again with `fsseg nnunet plans`."
