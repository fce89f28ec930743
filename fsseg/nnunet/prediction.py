"""Sliding-window prediction with nnU-Net's own predictor, so that results equal those of `nnUNetv2_predict`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from fsseg.config.errors import FssegError
from fsseg.data.contents import DatasetContent
from fsseg.nnunet.contents import CaseProperties
from fsseg.nnunet.label_map_file import write_label_map
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.quiet import quiet
from fsseg.training.placement import place


class Predictor:
    """Runs a network over whole images as the plans of a model say.

    Args:
        network: the network, merged or adapted in place; put into evaluation mode.
        model: plans, dataset.json and configuration; axes to mirror, and the step of the sliding window.
        device: where to compute.
        folds: weights of which the logits are averaged, loaded into the network one after the other; none means those
            that it has.
    """

    def __init__(
        self,
        network: nn.Module,
        model: ModelFolder,
        device: torch.device,
        folds: Sequence[Mapping[str, Tensor]] = (),
    ) -> None:
        self.model = model
        self.folds = folds
        self.preprocessor = CasePreprocessor(model, cache=None)
        self.network = place(network, device).eval()
        with quiet():
            self._predictor = nnUNetPredictor(
                tile_step_size=model.tile_step_size,
                use_mirroring=model.mirroring_axes is not None,
                perform_everything_on_device=device.type == "cuda",
                device=device,
                allow_tqdm=False,
            )
            self._predictor.manual_initialization(
                self.network,
                model.plans_manager(),
                model.configuration_manager(),
                None,
                model.dataset_json,
                "nnUNetTrainer",
                model.mirroring_axes,
            )

    @torch.inference_mode()
    def logits(self, image: np.ndarray) -> Tensor:
        """Return the logits (C, D, H, W) of a preprocessed (channels, D, H, W) image.

        Raises:
            FssegError: they are too large for nnU-Net's half precision.
        """
        sums = None
        for weights in self.folds or (None,):
            if weights is not None:
                self.network.load_state_dict(weights)
            logits = self._sliding_window(image)
            sums = logits if sums is None else sums.add_(logits)  # in half precision, as nnU-Net adds them
        assert sums is not None
        return sums.div_(max(1, len(self.folds))).float()

    def _sliding_window(self, image: np.ndarray) -> Tensor:
        try:
            with quiet():
                return self._predictor.predict_sliding_window_return_logits(torch.from_numpy(image)).cpu()
        except RuntimeError as error:
            if "Encountered inf" not in str(error):
                raise
            raise FssegError(
                "The network's logits are too large for the half precision in which nnU-Net sums them: its training has"
                " diverged.\n  Train again at lower rates."
            ) from None

    def write(
        self,
        logits: Tensor,
        properties: CaseProperties,
        out: Path,
        dataset_json: DatasetContent,
        *,
        save_probabilities: bool = False,
    ) -> None:
        """Write a label map in the geometry of the image.

        Args:
            logits: (C, D, H, W) of the preprocessed image.
            properties: of the image, from its preprocessing.
            out: label map to write, with the file ending of dataset.json.
            dataset_json: the meaning of the C channels.
            save_probabilities: also write them beside it, as nnU-Net does for ensembles (.npz and .pkl).

        Raises:
            FssegError: it was not written whole.
        """
        write_label_map(
            logits,
            properties,
            out,
            configuration=self._predictor.configuration_manager,
            plans=self._predictor.plans_manager,
            dataset_json=dataset_json,
            save_probabilities=save_probabilities,
        )
