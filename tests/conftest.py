"""Phantom datasets, a pretrained base and an adapted run, made once for all tests through the command line."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from warm_process import program

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported

REPOSITORY = Path(__file__).parents[1]
SOURCES = "Dataset901_PhantomSources"
TARGET = "Dataset804_PhantomTarget"
PLANS_NAME = "tiny_cpu"
KNOWN, NOVEL = "liver", "stomach"
LONG_FIXTURES = {"lab", "tiny_demo", "phantoms", "imported"}  # a trained base, the demo, checkpoints: not quick
LONG_FILES = {  # every method, option or network in turn: not quick
    "test_apply_method",
    "test_feature_cache",
    "test_import_input",
    "test_input_channels",
    "test_method_contract",
    "test_method_forms",
    "test_method_options",
    "test_networks",
}


@dataclass(frozen=True)
class Outcome:
    """What a command returned and wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON; fails if anything else is on it."""
        return json.loads(self.out)


def fsseg(*words: object) -> Outcome:
    """Run the command line in this process."""
    from fsseg.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as leaving:  # argparse
            code = leaving.code if isinstance(leaving.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*words: object) -> Any:
    """Run a command with --json in this process; return what it printed."""
    outcome = fsseg(*words, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def start_fsseg(*words: object) -> subprocess.Popen:
    """Start the command line as a process of its own, with as many threads as this one uses."""
    import torch

    threads = torch.get_num_threads()
    code = f"import fsseg, torch; torch.set_num_threads({threads}); from fsseg.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        program(f"import sys; {code}", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that starts pytest in the background lets its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        encoding="utf-8",
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by its path: to see that nothing changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Lab:
    """Datasets, plans and a pretrained base."""

    root: Path
    plans: Path
    base: Path
    pretrained: Mapping[str, Any]
    test_list: Path
    pool_list: Path

    @property
    def target(self) -> Path:
        """The raw dataset to adapt to, with the cases PhantomTarget_target_000 to 003."""
        return self.root / "raw" / TARGET

    @property
    def preprocessed(self) -> Path:
        """The preprocessed dataset that the base was trained on."""
        return self.root / "preprocessed" / SOURCES

    def case(self, index: int) -> str:
        """Return the name of a target case."""
        return f"PhantomTarget_target_{index:03d}"

    def image(self, index: int) -> Path:
        """Return the image of a target case."""
        return self.target / "imagesTr" / f"{self.case(index)}_0000.nii.gz"

    def label(self, index: int) -> Path:
        """Return the label map of a target case."""
        return self.target / "labelsTr" / f"{self.case(index)}.nii.gz"

    def adapt_words(self, out: Path, *more: object, method: str = "lora", base: Path | None = None) -> list[object]:
        """Return an adapt command of a few steps; later options win over the defaults here."""
        words: list[object] = ["adapt", "--checkpoint", base or self.base, "--dataset", "804", "--out", out]
        words += ["--method", method, "--device", "cpu"]
        defaults: dict[str, list[object]] = {
            "--structure": [NOVEL, KNOWN],
            "--shots": [2],
            "--test": [self.test_list],
            "--set": ["recipe.max_steps=3"],
        }
        if "--cases" in more:
            del defaults["--shots"]
        for option, values in defaults.items():
            if option not in more:
                words += [option, *values]
        return [*words, *more]

    def pretrain_words(self, out: Path, *more: object, steps: int = 8) -> list[object]:
        """Return a pretrain command with epochs of two steps."""
        words: list[object] = ["pretrain", "--dataset", "901", "--plans", PLANS_NAME, "--steps", steps, "--out", out]
        return [*words, "--device", "cpu", "--set", "steps_per_epoch=2", *more]

    def copy_target(self, raw: Path) -> "Lab":
        """Copy the target dataset below another nnUNet_raw, to damage it there; files are not linked."""
        shutil.copytree(self.target, raw / TARGET)
        return Lab(raw.parent, self.plans, self.base, self.pretrained, self.test_list, self.pool_list)

    def copy_base(self, out: Path, *, reader: str) -> Path:
        """Copy the base, as if its plans had named another class that reads images."""
        shutil.copytree(self.base, out)
        plans = json.loads((out / "plans.json").read_text(encoding="utf-8"))
        (out / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": reader}), encoding="utf-8")
        return out


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the quick tests; skip slow ones unless `-m` asks for them, and GPU tests without a CUDA device; say so."""
    import torch

    import fsseg  # noqa: F401 - sets the OpenMP variables before torch is imported

    slow = pytest.mark.skip(reason="slow: run it with `pytest -m slow`")
    gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        is_long = LONG_FIXTURES & {*getattr(item, "fixturenames", ())} or item.path.stem in LONG_FILES
        if not is_long and not marks & {"full", "slow", "gpu"}:
            item.add_marker(pytest.mark.quick)
        if "slow" in marks and "slow" not in config.getoption("markexpr"):
            item.add_marker(slow)
        if "gpu" in marks and not torch.cuda.is_available():
            item.add_marker(gpu)


@pytest.fixture(autouse=True)
def few_threads() -> None:
    """Use at most two threads: the networks here are too small for more."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 2:
        torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def no_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs leave no report.html, which takes longer than they do; test_run_reports.py and shared runs have one."""
    if getattr(request.module, "LEAVES_REPORTS", False):
        return
    for stage, write in (("adaptation", "write_adaptation_report"), ("pretraining", "write_pretraining_report")):
        module = sys.modules.get(f"fsseg.{stage}.result")
        if module is not None:
            monkeypatch.setattr(module, write, lambda *_: None)


@pytest.fixture(scope="session")
def lab_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder with nnU-Net's folders in it, and set its environment variables."""
    root = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("raw", "preprocessed"):
            (root / variable).mkdir()
            patch.setenv(f"nnUNet_{variable}", str(root / variable))
        patch.delenv("nnUNet_results", raising=False)
        yield root


@pytest.fixture(scope="session")
def lab(lab_root: Path) -> Lab:
    """Write and assemble the phantoms, preprocess and pretrain."""
    import torch

    from fsseg.demo.phantom_datasets import write_phantom_datasets

    torch.set_num_threads(min(2, torch.get_num_threads()))
    specs = write_phantom_datasets(lab_root / "sources", cases_per_source=2, target_cases=4)
    for names, dataset in ((specs[:3], SOURCES), (specs[3:], TARGET)):
        number, name = dataset.removeprefix("Dataset").split("_")
        succeed("assemble", *names, "--root", lab_root / "sources", "--id", number, "--name", name)
    plans = lab_root / f"{PLANS_NAME}.json"
    plans.write_text(json.dumps(tiny_plans()), encoding="utf-8")
    succeed("preprocess", "--dataset", "901", "--plans", plans)
    lists = {"test": [3], "pool": [0, 2]}
    for name, cases in lists.items():
        text = "".join(f"PhantomTarget_target_{index:03d}\n" for index in cases)
        (lab_root / f"{name}.txt").write_text(text, encoding="utf-8")
    base = lab_root / "runs" / "base"
    lab = Lab(lab_root, plans, base, {}, lab_root / "test.txt", lab_root / "pool.txt")
    pretrained = succeed(*lab.pretrain_words(base, "learning_rate=0.01", steps=10))
    return Lab(lab_root, plans, base, pretrained, lab.test_list, lab.pool_list)


@pytest.fixture
def site(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Copy the target dataset into nnU-Net folders of its own, to change it there."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return lab.copy_target(tmp_path / "raw")


@pytest.fixture(scope="session")
def adapted(lab: Lab) -> Path:
    """Adapt the base with LoRA and a tuned decoder to a known and a novel structure, two shots, five steps."""
    out = lab.root / "runs" / "adapted"
    succeed(*lab.adapt_words(out, "--decoder", "tuned", "--set", "recipe.max_steps=5", "rank=2"))
    return out


def tiny_plans() -> dict[str, Any]:
    """Return plans of a plain U-Net with three stages on 8 mm voxels, for which no fingerprint is needed."""
    plans = json.loads((REPOSITORY / "plans" / "headneck_cpu.json").read_text(encoding="utf-8"))
    plans |= {
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": [8.0, 8.0, 8.0],
        "foreground_intensity_properties_per_channel": {
            "0": {
                "mean": 60.0,
                "std": 120.0,
                "percentile_00_5": -200.0,
                "percentile_99_5": 400.0,
                "min": -1000.0,
                "max": 1500.0,
                "median": 60.0,
            }
        },
    }
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {
        "data_identifier": f"{PLANS_NAME}_3d_fullres",
        "spacing": [8.0, 8.0, 8.0],
        "patch_size": [16, 16, 16],
    }
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [1, 1],
    }
    return plans
