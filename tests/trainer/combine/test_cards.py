"""Every method has a card, and the page of cards is the one that the registry gives."""

import dataclasses
import pathlib

import pytest

from trainer.combine import cards
from trainer.combine.registry import METHODS

README = pathlib.Path(cards.__file__).with_name("README.md")


@pytest.mark.parametrize("name", METHODS)
def test_no_field_is_empty(name):
    method = METHODS[name]
    fields = dataclasses.asdict(method.card) | {"summary": method.summary}
    if method.options is not None:
        fields |= {field.name: field.metadata["meaning"] for field in dataclasses.fields(method.options)}
    for field, text in fields.items():
        assert text.strip() == text != "", field
        ends = field in ("use", "avoid", "differences")
        assert text.endswith((".", ".)")) == ends, f"{field}: sentences end with a full stop, all else does not"


def test_the_page_is_up_to_date():
    assert README.read_text() == cards.text(), "python -m trainer.combine.cards > trainer/combine/README.md"
