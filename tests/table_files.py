"""A table file with its spec, and empty files in the place of data, for what looks at names alone."""

from pathlib import Path
from typing import Any

import yaml

SPEC = {
    "name": "Site",
    "folder": "site",
    "modality": "CT",
    "licence": "CC BY 4.0",
    "homepage": "https://example.org/site",
    "layout": {"kind": "nnunet_raw"},
    "labels": {1: "liver"},
    "annotated": ["liver"],
}
TABLE: dict[str, Any] = {
    "title": "A table",
    "datasets": {"target": {"specs": ["site.yaml"], "id": 104, "name": "Target"}},
    "bases": {
        "public": {"imported": {"file": "public.pth", "page": "https://example.org/public"}},
        "ours": {"pretrained": {"dataset": "target", "plans": "phantom_plans", "settings": {"steps": 2}}},
    },
    "targets": {
        "liver": {
            "dataset": "target",
            "structures": ["liver"],
            "prefix": "Site_",
            "pool": {"names": ["a", "b"]},
            "test": {"names": [f"t{number:02d}" for number in range(12)]},
        }
    },
    "axes": {"base": ["public"], "method": ["full"], "shots": [1]},
}


def write(folder: Path, *, cases: tuple[str, ...] = (), **changes: Any) -> list[object]:
    """Write a table, its spec and empty files of cases; return the command of the table."""
    (folder / "site.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    (folder / "mine.yaml").write_text(yaml.safe_dump({**TABLE, **changes}), encoding="utf-8")
    for case in cases:
        for part, name in (("imagesTr", f"{case}_0000"), ("labelsTr", case)):
            file = folder / "root" / "site" / part / f"{name}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (folder / "root").mkdir(exist_ok=True)
    return ["table", folder / "mine.yaml", "--root", folder / "root", "--out", folder / "out"]
