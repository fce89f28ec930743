"""Adapters of all methods, saved here, compute the same in another process that never saw them trained."""

import json
import subprocess
from pathlib import Path

import pytest
from method_cases import CASES, FITTING_OPTIONS, logits_of, randomise, train
from safetensors.torch import save_file
from warm_process import program

_CHILD = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from tiny import image_for, tiny_network
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.registry import create_method

folder = Path(sys.argv[1])
for name, (method, options, decoder, network) in json.loads((folder / "cases.json").read_bytes()).items():
    torch.manual_seed(1)
    adapted = AdaptedNetwork(tiny_network(network), create_method(method, options), decoder)
    adapted.load_state(load_file(folder / f"{name}.safetensors"))
    with torch.no_grad():
        logits = adapted.network.eval()(image_for(adapted.network))
    expected = load_file(folder / f"{name}.logits")["logits"]
    print(name, float((logits - expected).abs().max()))
"""


@pytest.mark.full
def test_adapters_of_all_methods_load_in_a_new_process(tmp_path: Path) -> None:
    """One network a method: a U-Net where the method is defined on it, else the attention network."""
    chosen = {case.method: case for case in reversed(CASES) if case.network in ("plain", "swin")}
    cases = {}
    for number, (method, case) in enumerate(chosen.items()):
        adapted = case.adapt()
        randomise(adapted)
        train(adapted, steps=1)
        save_file(adapted.compact_state(), tmp_path / f"{number}.safetensors")
        save_file({"logits": logits_of(adapted.network).contiguous()}, tmp_path / f"{number}.logits")
        cases[str(number)] = (method, FITTING_OPTIONS.get(method, {}), case.decoder, case.network)
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{_CHILD}"
    child = subprocess.run(program(code, tmp_path), capture_output=True, encoding="utf-8", check=False)
    assert child.returncode == 0, child.stderr
    differences = dict(line.split() for line in child.stdout.splitlines())
    assert differences.keys() == cases.keys()
    wrong = {cases[number][0]: float(d) for number, d in differences.items() if float(d) > 1e-5}
    assert not wrong
    assert len(chosen) == len({case.method for case in CASES})
