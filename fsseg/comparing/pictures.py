"""Pictures of the cases of a comparison: worst, median and best of each structure, and a viewer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fsseg.comparing.numbers import Comparison
from fsseg.config.errors import FssegError
from fsseg.evaluation.case_volumes import CaseVolumes, first_channel, read_case_volumes
from fsseg.evaluation.label_folders import LabelFolder
from fsseg.reporting.html import Picture, Section
from fsseg.reporting.overlays import DrawnCase, comparison_figure
from fsseg.reporting.ranked_cases import RankedCase, ranked_cases, ranked_picture
from fsseg.reporting.safe_sections import section_or_reason
from fsseg.reporting.viewer import Viewer, viewer_case

_MOST_STRUCTURES, _MOST_RUNS = 8, 6  # that are drawn side by side, so that a page stays small


@dataclass(frozen=True)
class CasePictures:
    """What is drawn from where.

    Attributes:
        comparison: the numbers, with the cases as their files are called.
        reference: label maps.
        predictions: run -> label maps.
        images: folder of images; None where there is none.
        names: case -> what the page calls it.
    """

    comparison: Comparison
    reference: LabelFolder
    predictions: Mapping[str, LabelFolder]
    images: Path | None
    names: Mapping[str, str]

    def sections(self) -> list[Section]:
        """Return the parts of the page that show cases."""
        heading = "Worst, median and best case"
        if self.images is None:
            return [Section(heading, ["Nothing is drawn: --images names the folder of the images."])]
        return [
            section_or_reason("Slices", lambda: Section("Slices", viewers=[self._viewer()])),
            section_or_reason(heading, lambda: Section(heading, self._texts(), pictures=self._pictures())),
        ]

    def _texts(self) -> list[str]:
        structures, runs = self.comparison.structures, self._runs
        averaged = ", averaged over the runs" if len(runs) > 1 else ""
        texts = [f"Cases are ranked by their DSC{averaged}. Outlined: the reference. Filled: the prediction."]
        if len(structures) > _MOST_STRUCTURES:
            texts.append(f"Drawn are the first {_MOST_STRUCTURES} of {len(structures)} structures.")
        if len(runs) < len(self.predictions):
            texts.append(f"Drawn are the baseline and the first others, {len(runs)} of {len(self.predictions)} runs.")
        return texts

    @property
    def _runs(self) -> list[str]:
        """The runs that are drawn, the baseline among them."""
        first = sorted(self.predictions, key=lambda run: run != self.comparison.baseline)[:_MOST_RUNS]
        return [run for run in self.predictions if run in first]

    def _pictures(self) -> list[Picture]:
        if len(self.predictions) == 1:
            return self._of_one_run(*self.predictions)
        return [
            self._picture(structure, ranked)
            for structure in self.comparison.structures[:_MOST_STRUCTURES]
            for ranked in ranked_cases(self._mean_over_runs(structure))
        ]

    def _of_one_run(self, run: str) -> list[Picture]:
        """Return a picture a structure: its worst, median and best case below each other."""
        pictures = []
        shown = self.comparison.structures[:_MOST_STRUCTURES]
        files = {name: case for case, name in self.names.items()}

        def drawn(structure: str, name: str) -> DrawnCase:
            case = self._volumes(files[name], [structure])
            return DrawnCase(case.image, case.reference, case.predictions[run], case.spacing_zyx_mm, case.window)

        for structure in shown:
            dsc_of = {self.names[case]: dsc for case, dsc in self.comparison.dsc_of_cases(run, structure).items()}
            pictures.append(ranked_picture(structure, shown, dsc_of, partial(drawn, structure), run))
        return [picture for picture in pictures if picture is not None]

    def _picture(self, structure: str, ranked: RankedCase) -> Picture:
        case, name = self._volumes(ranked.case, [structure]), self.names[ranked.case]
        title = f"{structure}, {ranked.rank}: {name}, DSC {ranked.dsc:.3f}"
        png = comparison_figure(case.image, case.reference, case.predictions, case.spacing_zyx_mm, case.window, title)
        return Picture(png, f"{title}, averaged over the runs.", f"slices of {name} with {structure} by every run")

    def _viewer(self) -> Viewer:
        structures = self.comparison.structures[:_MOST_STRUCTURES]
        shown = [ranked.case for ranked in ranked_cases(self._mean_over_runs(list(self.comparison.columns)[-1]))]
        cases = []
        for name in shown:
            case = self._volumes(name, structures)
            cases.append(
                viewer_case(
                    self.names[name],
                    case.image,
                    case.reference,
                    case.predictions,
                    case.spacing_zyx_mm,
                    structures,
                    case.window,
                )
            )
        return Viewer(cases, structures, "Worst, median and best case by the mean over structures and runs.")

    def _volumes(self, case: str, structures: Sequence[str]) -> CaseVolumes:
        assert self.images is not None
        image = first_channel(self.images, case)
        if image is None:
            raise FssegError(f"No image of {case} in {self.images}")
        predictions = {run: self.predictions[run] for run in self._runs}
        return read_case_volumes(image, self.reference, predictions, case, structures)

    def _mean_over_runs(self, column: str) -> dict[str, float]:
        per_run = [self.comparison.dsc_of_cases(run, column) for run in self.comparison.rows]
        return {case: sum(values[case] for values in per_run) / len(per_run) for case in per_run[0]}
