"""Every member that AWS's model has is accounted for: read, refused, or stored and named in docs/additions.md."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.aws import service
from hostler.aws.service import Shape
from hostler.control.sagemaker import members
from hostler.control.sagemaker.operations import OPERATIONS
from hostler.errors import ValidationException

ADDITIONS = (Path(__file__).parents[3] / "docs/additions.md").read_text()
SHAPES = {name: operation.input for name, operation in service.load("sagemaker", OPERATIONS).operations.items()}


def reachable(shape: Shape) -> Iterator[Shape]:
    """Yield the structures in which a request's members are looked at one by one."""
    yield shape
    for name, member in shape.members.items():
        inner = member.element or member
        if inner.type == "structure" and name in members.READ.get(shape.name, ()):
            yield from reachable(inner)


TABLES = (members.READ, members.REFUSED, members.STORED)
LOOKED_AT = {shape.name: shape for top in SHAPES.values() for shape in reachable(top)}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_every_member_of_the_installed_model_has_its_part_in_exactly_one_table(name: str):
    parts = Counter(member for table in TABLES for member in table.get(name, ()))
    assert {member: parts[member] for member in LOOKED_AT[name].members} == dict.fromkeys(LOOKED_AT[name].members, 1)


@pytest.mark.require("newest_botocore")
def test_the_tables_have_no_shape_and_no_member_that_no_request_reaches():
    named = {
        shape: {member for table in TABLES for member in table.get(shape, ())} for table in TABLES for shape in table
    }
    assert named == {name: {*shape.members} for name, shape in LOOKED_AT.items()}


@pytest.mark.parametrize("member", sorted({member for each in members.STORED.values() for member in each}))
def test_a_member_that_is_only_stored_is_named_among_the_additions(member: str):
    assert re.search(rf"`{member}`", ADDITIONS)


def test_a_member_that_no_table_has_is_refused_by_its_path():
    shape = Shape("ProductionVariant", "structure", members={"NewMember": Shape("String", "string")})
    variants = Shape("List", "list", element=shape)
    top = Shape("CreateEndpointConfigInput", "structure", members={"ProductionVariants": variants})
    with pytest.raises(ValidationException, match=r"^ProductionVariants\.NewMember is a feature of SageMaker that"):
        members.check(top, {"ProductionVariants": [{}, {"NewMember": "x"}]})
