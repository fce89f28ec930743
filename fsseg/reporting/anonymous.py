"""Names for cases on pages and in tables that go to strangers."""

from collections.abc import Iterable


def anonymous_names(cases: Iterable[str]) -> dict[str, str]:
    """Return case -> case_001, case_002, …, in the order of the sorted identifiers, so the same cases have the same."""
    ordered = sorted(set(cases))
    digits = max(3, len(str(len(ordered))))
    return {case: f"case_{number:0{digits}d}" for number, case in enumerate(ordered, start=1)}
