from pathlib import Path

R = Path(__file__).resolve().parents[2]


def shipped_or_own(kind, name, near):
    for c in (
        near.parent / name,
        R / kind / name,
        R / kind / f"{name}.yaml",
        R / kind / f"{name}.json",
        R / "fsseg/demo" / f"{name}.json",
    ):
        if c.is_file():
            return c
    raise FileNotFoundError(name)


SPECS = "dataset_specs"
PLANS = "plans"
