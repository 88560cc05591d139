import argparse
import re
import shlex
from pathlib import Path

import pytest

import arguments
import contenders
import run

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
COMMANDS = sorted(
    {
        command
        for document in DOCUMENTS
        for command in re.findall(r"`(?:[\w./]*python )?bench/run\.py ([^`\[]*)`", document.read_text())
    }
)


def test_documents_contain_commands():
    assert "--contenders hostler,MMS --workloads cold" in COMMANDS


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--help" not in command])
def test_each_command_in_a_document_can_be_read(command: str):
    run.options_of(shlex.split(command))


def test_contenders_are_named_as_their_tables_print_them_in_any_case():
    names = [contender.name for contender in contenders.ALL]
    for written in (",".join(names), ",".join(names).lower(), ",".join(names).upper()):
        assert run.options_of(["--contenders", written]).contenders == contenders.ALL
    assert run.options_of(["--contenders", "Core"]).contenders == contenders.CORE
    assert [workload.name for workload in run.options_of(["--workloads", "NOOP-5mb"]).workloads] == ["noop-5MB"]


def test_an_unknown_name_is_refused_with_all_names():
    with pytest.raises(argparse.ArgumentTypeError, match="'c': not among A, b"):
        arguments.subset({"A": 1, "b": 2})("a,c")
