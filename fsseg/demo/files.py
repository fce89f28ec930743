"""Where the files of a demo lie, relative to its folder."""

from dataclasses import dataclass
from pathlib import Path

from fsseg.config import shipped_files
from fsseg.data.folder_listing import listed
from fsseg.demo.methods import DemoMethod

PLANS = shipped_files.PLANS.files()["phantom_plans"]
_FILE_ENDING = ".nii.gz"


@dataclass(frozen=True)
class DemoFiles:
    """The files of a demo.

    Attributes:
        target: the raw dataset of the target site.
        test_cases: its cases that nothing is learned from.
    """

    target: Path
    test_cases: tuple[str, ...]

    @property
    def images(self) -> Path:
        """Images of the target site."""
        return self.target / "imagesTr"

    @property
    def labels(self) -> Path:
        """Reference label maps of the target site."""
        return self.target / "labelsTr"

    @property
    def test_list(self) -> Path:
        """The test cases, one a line."""
        return Path("test_cases.txt")

    @property
    def pretrained(self) -> Path:
        """Run folder of the pretraining."""
        return Path("runs", "pretrained")

    def image(self, case: str) -> Path:
        """Return the CT of a case."""
        return self.images / f"{case}_0000{_FILE_ENDING}"

    def run(self, method: DemoMethod) -> Path:
        """Return the run folder of a method."""
        return Path("runs", method.folder)

    def predictions(self, method: DemoMethod) -> Path:
        """Return the folder of a method's predictions."""
        return Path("predictions", method.folder)

    def metrics(self, method: DemoMethod) -> Path:
        """Return the CSV of a method's metrics."""
        return Path("metrics", f"{method.folder}.csv")


def target_files(target: Path, test_cases: int) -> DemoFiles:
    """Return the files of a demo whose test cases are the last `test_cases` of the target site."""
    cases = sorted(path.name.removesuffix(_FILE_ENDING) for path in listed(target / "labelsTr"))
    return DemoFiles(target, tuple(cases[-test_cases:]))
