"""`fsseg adapter show` and `merge`, and several adapters on one base in one `fsseg predict`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import SimpleITK
import torch
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed
from safetensors.torch import load_file, save_file

from fsseg.config.errors import UsageError
from fsseg.config.staging import MARKER_NAME, staging_of
from fsseg.methods.adapter_file import LabelMaps, load_adapter, sealed
from fsseg.methods.stacked_networks import StackedNetworks
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.load_adapted import load_adapted
from fsseg.prediction.one_image import segment_image
from fsseg.prediction.stacked_adapters import adapters_to_predict

STEPS = ("--set", "recipe.max_steps=6", "recipe.head_learning_rate=0.05")


@pytest.fixture(scope="session")
def known(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned decoder for a known structure: the base's encoder."""
    out = tmp_path_factory.mktemp("adapters") / "known"
    succeed(*lab.adapt_words(out, "--structure", KNOWN, *STEPS, method="decoder"))
    return out


@pytest.fixture(scope="session")
def novel(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ARENA on the whole network for a novel structure."""
    out = tmp_path_factory.mktemp("adapters") / "novel"
    words = ("--structure", NOVEL, "--decoder", "frozen", *STEPS, "rank=2", "gate_range=0.2")
    words = (*words, "recipe.learning_rates={low_rank: 0.05}")
    succeed(*lab.adapt_words(out, *words, method="arena"))
    return out


@pytest.fixture(scope="session")
def probe(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear probe for a novel structure: everything but the head is the base's."""
    out = tmp_path_factory.mktemp("adapters") / "probe"
    succeed(*lab.adapt_words(out, "--structure", NOVEL, *STEPS, method="linear_probe"))
    return out


def adapter(run: Path) -> Path:
    return run / "adapter.safetensors"


# show


def test_show_tells_what_an_adapter_is(lab: Lab, novel: Path) -> None:
    facts = succeed("adapter", "show", adapter(novel))
    split = json.loads((novel / "split.json").read_text(encoding="utf-8"))
    manifest = json.loads((novel / "manifest.json").read_text(encoding="utf-8"))
    assert facts["method"] == "arena"
    assert facts["decoder"] == "frozen"
    assert facts["options"]["rank"] == 2
    assert facts["structures"] == {NOVEL: None}
    assert facts["support"] == split["support"]
    assert facts["base_sha256"] == ModelFolder.read(lab.base).sha256
    assert facts["training"]["steps"] == 6
    assert facts["ranks"] == manifest["ranks"]
    assert 0 < sum(facts["ranks"].values()) <= 2 * len(facts["ranks"])
    assert facts["parameters"] == sum(t.numel() for t in load_file(adapter(novel)).values())
    assert facts["bytes"] == adapter(novel).stat().st_size


def test_show_reads_well(lab: Lab, known: Path, novel: Path) -> None:
    text = fsseg("adapter", "show", adapter(known)).out
    assert f"{KNOWN} (head row {ModelFolder.read(lab.base).structures.names.index(KNOWN)} of the base)" in text
    assert "decoder, decoder tuned" in text
    text = fsseg("adapter", "show", adapter(novel)).out
    assert f"{NOVEL} (new head row)" in text
    assert "rank=2" in text
    assert text.count("encoder.stages") >= 2


def test_gates_that_became_zero_are_not_in_the_file(novel: Path) -> None:
    state, info = load_adapter(adapter(novel))
    assert sum(info.ranks.values()) < 2 * len(info.ranks)
    for layer, rank in info.ranks.items():
        assert len(state[f"{layer}.parametrizations.weight.0.gate"]) == rank


# merge


def test_a_method_that_merges_names_no_other_command(lab: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", "--structure", NOVEL, *STEPS, method="linear_probe"))
    assert outcome.code == 0, outcome.err
    assert "--adapter" not in outcome.out


def test_merge_gives_the_weights_of_the_run(lab: Lab, known: Path, tmp_path: Path) -> None:
    succeed("adapter", "merge", adapter(known), "--base", lab.base, "--out", tmp_path / "merged")
    # An adapter that is trained on either fits the other.
    assert ModelFolder.read(tmp_path / "merged").sha256 == ModelFolder.read(known).sha256
    merged, run = ModelFolder.read(tmp_path / "merged"), ModelFolder.read(known)
    assert merged.dataset_json == run.dataset_json
    assert merged.plans == run.plans
    assert merged.mirroring_axes == run.mirroring_axes
    for name, tensor in run.weights.items():
        assert "seg_layers.0" in name or torch.equal(merged.weights[name], tensor), name


def test_a_merge_that_was_killed_can_be_given_again(lab: Lab, known: Path, tmp_path: Path) -> None:
    left = staging_of(tmp_path / "merged")
    (left / "fold_0").mkdir(parents=True)
    for name in (MARKER_NAME, "plans.json.tmp", "fold_0/half"):
        (left / name).write_text("half")
    succeed("adapter", "merge", adapter(known), "--base", lab.base, "--out", tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert MARKER_NAME not in {path.name for path in (tmp_path / "merged").iterdir()}


def test_scale_goes_straight_from_the_base_to_the_adapted_network(lab: Lab, known: Path, tmp_path: Path) -> None:
    folders = {}
    for scale in (0, 0.25, 1):
        folders[scale] = tmp_path / str(scale)
        words = ("adapter", "merge", adapter(known), "--base", lab.base, "--scale", scale, "--out", folders[scale])
        assert succeed(*words)["scale"] == scale
    start, between, end = (ModelFolder.read(folder).weights for folder in folders.values())
    base = ModelFolder.read(lab.base)
    row = base.structures.names.index(KNOWN)
    moved = [name for name in end if not torch.equal(start[name], end[name])]
    assert any("decoder.stages" in name for name in moved)
    assert any("seg_layers.1" in name for name in moved)
    for name in end:
        if "seg_layers" not in name:
            assert torch.equal(start[name], base.weights[name]), name
        torch.testing.assert_close(between[name], 0.75 * start[name] + 0.25 * end[name], rtol=1e-5, atol=1e-6)
    head = next(name for name in end if name.endswith("seg_layers.1.weight"))
    assert torch.equal(start[head][0], base.weights[head][row])


def test_head_row_of_a_novel_structure_stays_as_adapted_at_every_scale(lab: Lab, probe: Path, tmp_path: Path) -> None:
    words = ("adapter", "merge", adapter(probe), "--base", lab.base, "--scale", 0.5, "--out", tmp_path / "half")
    succeed(*words)
    half, run = ModelFolder.read(tmp_path / "half").weights, ModelFolder.read(probe).weights
    head = next(name for name in run if name.endswith("seg_layers.1.weight"))
    assert torch.equal(half[head], run[head])


def test_scale_is_refused_for_what_did_not_start_from_the_base(lab: Lab, tmp_path: Path) -> None:
    succeed(*lab.adapt_words(tmp_path / "run", "--structure", NOVEL, *STEPS, method="from_scratch"))
    words = ("adapter", "merge", adapter(tmp_path / "run"), "--base", lab.base, "--out", tmp_path / "out")
    outcome = fsseg(*words, "--scale", 0.5)
    assert outcome.code == 2
    assert "did not start from the base" in outcome.err
    assert not (tmp_path / "out").exists()
    succeed(*words)


def test_a_method_that_does_not_merge_says_so(lab: Lab, tmp_path: Path) -> None:
    adapted = fsseg(*lab.adapt_words(tmp_path / "run", "--structure", NOVEL, *STEPS, method="adaptformer"))
    assert adapted.code == 0, adapted.err
    assert "adaptformer does not merge" in adapted.out
    command = f"fsseg predict --base {lab.base} --adapter {adapter(tmp_path / 'run')} "
    assert adapted.out.splitlines()[-1] == f"  {command}--input IMAGES --output PREDICTIONS"
    assert not (tmp_path / "run" / "fold_0").exists()
    words = ("predict", "--run", tmp_path / "run", "--input", lab.image(1).parent, "--output", tmp_path / "out")
    outcome = fsseg(*words)
    assert outcome.code == 2
    assert f"fsseg predict --base BASE --adapter {adapter(tmp_path / 'run')}" in outcome.err
    words = ("adapter", "merge", adapter(tmp_path / "run"), "--base", lab.base, "--out", tmp_path / "merged")
    outcome = fsseg(*words)
    assert outcome.code == 2
    assert "cannot be merged into plain weights: its bottlenecks have a ReLU" in outcome.err
    assert f"fsseg predict --base {lab.base} --adapter {adapter(tmp_path / 'run')}" in outcome.err
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show",), "required: file"),
        (("melt", "file"), "invalid choice"),
        (("merge", "FILE", "--base", "BASE", "--out", "OUT", "--scale", "3"), "scale: .*2.*got 3"),
        (("merge", "FILE", "--base", "RUN", "--out", "OUT"), "another base"),
        (("merge", "FILE", "--base", "BASE", "--out", "RUN"), "exists already"),
    ],
)
def test_wrong_words_are_refused(lab: Lab, known: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    names = {"FILE": adapter(known), "BASE": lab.base, "RUN": known, "OUT": tmp_path / "out"}
    outcome = fsseg("adapter", *(names.get(word, word) for word in words))
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.err
    assert re.search(message, outcome.err), outcome.err
    assert not (tmp_path / "out").exists()


# several adapters on one base


def test_stacked_networks_compute_what_each_computes_alone(
    lab: Lab, known: Path, novel: Path, probe: Path, tmp_path: Path
) -> None:
    base = ModelFolder.read(lab.base)
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = [load_adapted(base, adapter(run))[0].network.eval()(image) for run in (probe, novel, known)]
        loaded = [load_adapted(base, adapter(run))[0] for run in (probe, novel, known)]
        stack = StackedNetworks(loaded).eval()
        torch.testing.assert_close(stack(image), torch.cat(alone, dim=1), rtol=0, atol=1e-6)
        moved = image + 1
        assert not torch.equal(stack(moved), stack(image))
    assert stack.shared_encoders == 1
    stack.double()  # moves every parameter, as going to a device does
    sizes = {tensor.data_ptr(): tensor.numel() for network in stack.networks for tensor in network.parameters()}
    own = sum(p.numel() for one in loaded for p in one.trainable().values())
    plain = sum({p.data_ptr(): p.numel() for p in base.build_network().parameters()}.values())
    assert sum(sizes.values()) <= plain + own + 1000  # the base once, and what the adapters train


def test_each_network_shares_the_base_before_the_next_is_built(
    lab: Lab, known: Path, novel: Path, probe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc

    from fsseg.prediction import stacked_adapters

    base = ModelFolder.read(lab.base)
    heaviest = max((p for p in base.build_network().parameters()), key=torch.numel)
    copies = []

    def counted(base: Any, file: Path) -> Any:
        gc.collect()
        tensors = (each for each in gc.get_objects() if type(each) is torch.nn.Parameter)
        same = (each.data_ptr() for each in tensors if each.shape == heaviest.shape and torch.equal(each, heaviest))
        copies.append(len({*same} - {heaviest.data_ptr()}))
        return load_adapted(base, file)

    monkeypatch.setattr(stacked_adapters, "load_adapted", counted)
    files = [adapter(run) for run in (probe, known, novel)]
    words = ("--input", lab.image(1).parent, "--output", tmp_path / "out", "--dry-run")
    with monkeypatch.context() as patch:
        patch.setattr(stacked_adapters, "_require_stackable", lambda _: None)  # two of them segment the same structure
        succeed("predict", "--base", lab.base, "--adapter", *files, *words)
    assert copies[1] - copies[0] == 1
    assert copies[2] == copies[1]


def test_one_prediction_with_two_adapters_shows_what_each_shows(
    lab: Lab, known: Path, novel: Path, tmp_path: Path
) -> None:
    """The later adapter is painted over the earlier one."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "case_0000.nii.gz").symlink_to(lab.image(1))
    together = tmp_path / "together"
    adapters = ("--adapter", adapter(novel), adapter(known))
    facts = succeed("predict", "--base", lab.base, *adapters, "--input", images, "--output", together)
    assert facts["structures"] == [NOVEL, KNOWN]
    read = {*map(str, (adapter(novel), adapter(known), images / "case_0000.nii.gz"))}
    read |= {str(lab.base / name) for name in ("fold_0/checkpoint_final.pth", "plans.json", "dataset.json")}
    assert facts["inputs"].keys() == read
    support = {case for run in (novel, known) for case in json.loads((run / "split.json").read_text())["support"]}
    assert json.loads((together / "dataset.json").read_text(encoding="utf-8"))["support_cases"] == sorted(support)
    masks = {}
    for name, run in (("novel", novel), ("known", known)):
        words = ("predict", "--run", run, "--input", images, "--output", tmp_path / name)
        succeed(*words)
        masks[name] = array(tmp_path / name) > 0
    labels = array(together)
    written, annotated = (
        json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["labels"] for folder in (together, lab.target)
    )
    assert written == {name: annotated[name] for name in ("background", NOVEL, KNOWN)}
    assert (labels == annotated[KNOWN][0]).any()
    assert ((labels == annotated[KNOWN][0]) == masks["known"]).all()
    assert ((labels == annotated[NOVEL][0]) == (masks["novel"] & ~masks["known"])).all()


def test_one_image_is_segmented_in_memory_as_by_the_command(lab: Lab, known: Path, tmp_path: Path) -> None:
    chosen = adapters_to_predict(lab.base, [adapter(known)])
    labels = segment_image(chosen, lab.image(1), "cpu")
    image = tmp_path / "case_0000.nii.gz"
    image.symlink_to(lab.image(1))
    words = ("--base", lab.base, "--adapter", adapter(known), "--input", image, "--output", tmp_path / "out")
    succeed("predict", *words)
    assert (SimpleITK.GetArrayFromImage(labels) == array(tmp_path / "out")).all()
    assert labels.GetOrigin() == SimpleITK.ReadImage(str(lab.image(1))).GetOrigin()
    with pytest.raises(UsageError, match=r"holds \d+ cases"):
        segment_image(chosen, lab.image(1).parent, "cpu")


@pytest.mark.parametrize(
    ("dataset", "second", "joined"),
    [
        ("other", {"c": (7,)}, {"a": (2, 5), "b": (5,), "c": (7,)}),
        ("other", {"c": (5,)}, {"a": (1, 2), "b": (2,), "c": (3,)}),  # where 5 means something else
        (None, {"c": (5,)}, {"a": (1, 2), "b": (2,), "c": (3,)}),  # it numbers its own
        ("first", {"c": (5,)}, {"a": (2, 5), "b": (5,), "c": (5,)}),
        # What contains is painted first; what is added is beyond all integers of the dataset.
        ("first", {"c": (2, 5, 6)}, {"c": (2, 5, 6), "a": (2, 5), "b": (5,)}),
        ("first", {"c": (2,)}, {"a": (2, 5, 10), "b": (5,), "c": (2,)}),
    ],
)
def test_adapters_of_one_dataset_keep_its_integers(
    dataset: str | None,
    second: dict[str, tuple[int, ...]],
    joined: dict[str, tuple[int, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from types import SimpleNamespace

    from fsseg.prediction.stacked_adapters import joined_integers

    infos: Any = [
        SimpleNamespace(integers={"a": (2, 5), "b": (5,)}, label_maps=LabelMaps(sha256="first", highest=9)),
        SimpleNamespace(integers=second, label_maps=dataset and LabelMaps(sha256=dataset, highest=9)),
    ]
    assert list(joined_integers(infos).items()) == list(joined.items())
    assert ("the adapter that is named later has it" in caplog.text) == (dataset != "first")


def test_adapters_for_an_organ_and_what_lies_in_it_show_both(site: Lab, tmp_path: Path) -> None:
    """One integer stands for both, whichever adapter is named first."""
    labels = json.loads((site.target / "dataset.json").read_text(encoding="utf-8"))["labels"]
    known, novel = labels[KNOWN][0], labels[NOVEL][0]
    for name in ("dataset.json", "structures.json"):  # KNOWN now means both together
        content = json.loads((site.target / name).read_text(encoding="utf-8"))
        content["labels" if name == "dataset.json" else "integers"][KNOWN] = [known, novel]
        (site.target / name).write_text(json.dumps(content), encoding="utf-8")
    settings = ("--set", "recipe.max_steps=4", "recipe.new_head_rows=random")
    for name in (KNOWN, NOVEL):
        succeed(*site.adapt_words(tmp_path / name, "--structure", name, *settings, method="full"))
    images = tmp_path / "images"
    images.mkdir()
    (images / "case_0000.nii.gz").symlink_to(site.image(1))
    masks = {}
    for name in (KNOWN, NOVEL):
        succeed("predict", "--run", tmp_path / name, "--input", images, "--output", tmp_path / f"{name}_alone")
        masks[name] = array(tmp_path / f"{name}_alone") > 0
    for first, second in ((KNOWN, NOVEL), (NOVEL, KNOWN)):
        adapters = (adapter(tmp_path / first), adapter(tmp_path / second))
        words = ("--base", site.base, "--adapter", *adapters, "--input", images)
        facts = succeed("predict", *words, "--output", tmp_path / f"{first}_first")
        assert facts["structures"] == [KNOWN, NOVEL]
        shown = array(tmp_path / f"{first}_first")
        assert ((shown == novel) == masks[NOVEL]).all()
        assert ((shown > 0) == (masks[KNOWN] | masks[NOVEL])).all()
    assert masks[NOVEL].any()


def array(folder: Path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "case.nii.gz")))


def test_prediction_with_a_method_that_does_not_merge(lab: Lab, tmp_path: Path) -> None:
    succeed(*lab.adapt_words(tmp_path / "run", "--structure", NOVEL, *STEPS, method="spatial_adapter"))
    images = tmp_path / "images"
    images.mkdir()
    (images / "case_0000.nii.gz").symlink_to(lab.image(1))
    words = (
        "--base",
        lab.base,
        "--adapter",
        adapter(tmp_path / "run"),
        "--input",
        images,
        "--output",
        tmp_path / "out",
    )
    assert succeed("predict", *words)["structures"] == [NOVEL]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Give either --run, or --base and --adapter"),
        (("--base", "BASE"), "Give either --run"),
        (("--adapter", "NOVEL"), "Give either --run"),
        (("--run", "RUN", "--base", "BASE", "--adapter", "NOVEL"), "Give either --run"),
        (("--base", "BASE", "--adapter", "NOVEL", "PROBE"), f"More than one adapter segments {NOVEL}"),
        (("--base", "RUN", "--adapter", "NOVEL"), "another base"),
    ],
)
def test_wrong_choice_of_what_to_run_is_refused(
    lab: Lab, known: Path, novel: Path, probe: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    names = {"BASE": lab.base, "RUN": known, "NOVEL": adapter(novel), "PROBE": adapter(probe)}
    given = (names.get(word, word) for word in words)
    outcome = fsseg("predict", *given, "--input", lab.image(1).parent, "--output", tmp_path / "out")
    assert outcome.code in (1, 2)
    assert message in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_damaged_list_of_live_terms_is_refused(lab: Lab, novel: Path, tmp_path: Path) -> None:
    state, info = load_adapter(adapter(novel))
    name = next(name for name in state if name.endswith(".live") and len(state[name]))
    state[name] = state[name] + 1000
    path = tmp_path / "damaged.safetensors"
    save_file(state, path, metadata=sealed(info.model_dump(mode="json"), state))
    outcome = fsseg("adapter", "merge", path, "--base", lab.base, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "The adapter does not fit its network" in outcome.err
