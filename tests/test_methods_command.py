"""`fsseg methods`: where to start, and each method with its options; a list of methods imports no torch."""

import subprocess
import sys
from typing import Annotated, Literal

import pytest
from conftest import fsseg, succeed
from pydantic import ConfigDict, Field

from fsseg.config.base import StrictModel
from fsseg.config.described import DescribedField, described_fields
from fsseg.config.recipes import Recipe
from fsseg.methods.description import describe_method
from fsseg.methods.registry import DEFAULT_DECODER, DEFAULT_METHOD, METHODS, create_method, method_names


class Base(StrictModel):
    """A base."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    part: Literal["one", "two"] = "one"
    """Which part; one of
    three: all of them.
    """
    count: int | None = 1
    """How many; None counts none."""


class Options(Base):
    """Options."""

    low: float = Field(default=0.5, gt=0, le=1, description="A bound.")
    high: Annotated[float, Field(ge=2)] = 3.0
    """Another bound."""
    count: int | None = None
    name: str
    """A name."""


def test_fields_are_described_from_model_and_docstrings() -> None:
    assert described_fields(Options) == [
        DescribedField("part", "one or two", "one", "Which part; one of three: all of them."),
        DescribedField("count", "integer or none", "null", "How many; None counts none."),
        DescribedField("low", "number above 0 to 1", "0.5", "A bound."),
        DescribedField("high", "number from 2", "3", "Another bound."),
        DescribedField("name", "text", None, "A name."),
    ]


@pytest.mark.parametrize("name", method_names())
def test_every_method_is_described_in_full(name: str) -> None:
    facts = describe_method(name)
    method, entry = create_method(name), METHODS[name.partition(":")[0]]
    assert (entry.merges, entry.decoder) == (not method.not_merged_because, method.decoder_choices)
    assert facts.text
    assert facts.trains
    assert [option.name for option in facts.options] == list(type(method.options).model_fields)
    assert all(option.meaning and option.takes and option.default for option in facts.options)
    # What is printed as defaults can be given back.
    words = [f"{option.name}={option.default}" for option in facts.options]
    from fsseg.cli.options import parse_set

    assert create_method(name, parse_set(words)).options == method.options


def test_every_setting_of_the_recipe_is_described() -> None:
    options = succeed("methods", "recipe")["options"]
    assert [option["name"] for option in options] == list(Recipe.model_fields)
    assert all(option["meaning"] for option in options)


def test_a_method_is_printed_with_its_options() -> None:
    text = fsseg("methods", "lora:fseft").out
    for part in (
        "rank=12   (integer from 1)",
        "targets=encoder",
        "Hu et al., ICLR 2022",
        "lora:fseft",
        "merges      yes",
    ):
        assert part in text
    outcome = fsseg("methods", "lorra")
    assert outcome.code == 2
    assert "Did you mean 'lora'?" in outcome.err


def test_the_list_says_where_to_start_and_imports_no_torch() -> None:
    code = "import sys; from fsseg.cli.main import main; main(['methods']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert f"Where to start: `{DEFAULT_METHOD}` with `--decoder {DEFAULT_DECODER}`" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
