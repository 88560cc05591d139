"""The documents say what the code does: settings, commands, operations, metrics, files, versions, the lock."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from hostler import __version__
from hostler.cli import demo
from hostler.cli.main import main
from hostler.control.services import SERVICES
from hostler.core.faults import KINDS, Rule
from hostler.gateway.access_log import Line
from hostler.setting_values import size
from hostler.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INVOCATIONS = {"InvokeEndpoint", "InvokeEndpointWithResponseStream"}  # the gateway's operations
LOCKS = sorted(ROOT.glob("requirements/*.txt"))
# Lock -> the extras and the groups that it has besides hostler's dependencies; `make lock` makes them. The lock
# of the tests' images, in which there is no hostler, has its group alone.
LOCKED = {
    "demo.txt": ("xgboost", "build"),
    "test.txt": ("xgboost sklearn onnx lightgbm aws-hosts docker", "build check test"),
    "sdk2.txt": ("xgboost sklearn aws-hosts docker", "build sdk2"),
    "sdk3.txt": ("xgboost sklearn aws-hosts docker", "build sdk3"),
    "oldest.txt": ("xgboost sklearn onnx lightgbm aws-hosts docker", "build oldest"),
    "images.txt": (None, "images"),
}
EXTRAS = PROJECT["project"]["optional-dependencies"]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def section(document: str, heading: str) -> str:
    """What stands below a heading, up to the next of its rank."""
    rank = heading.split(" ")[0]
    return re.split(rf"^{rank} ", document.split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(table: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")
    ]


def code(cell: str) -> str:
    return cell.strip("`")


# --- README -------------------------------------------------------------------------------------------------------


def test_the_readmes_program_is_the_one_that_the_demo_runs():
    assert f"```python\n{demo.PROGRAM}```\n" in read("README.md")


def test_the_readmes_first_two_commands_need_nothing_but_make():
    commands = re.findall(r"^\$ (.*)$", read("README.md"), re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]


def test_the_readme_has_every_setting_as_it_is():
    usual, advanced = section(read("README.md"), "## Settings").split("\n### Advanced settings\n")
    for table, is_advanced in ((usual, False), (advanced, True)):
        documented = {code(row[0]): row[1:] for row in rows(table)[1:]}
        described = [setting for setting in Settings.described() if setting.advanced == is_advanced]
        assert list(documented) == [setting.name for setting in described]
        for setting in described:
            default, text = documented[setting.name]
            assert text == setting.help, setting.name
            assert code(default) in _spellings(setting.default), setting.name


def _spellings(default: object) -> set[str]:
    if isinstance(default, bool):
        return {str(default).lower()}
    if default is None:
        return {""}
    if isinstance(default, tuple):
        return {",".join(default)}
    if isinstance(default, int):
        sizes = (f"{n}{unit}" for n in (1, 10, 20, 50, 100, 128, 256) for unit in ("MiB", "GiB"))
        return {str(default), *(text for text in sizes if size(text) == default)}
    return {f"{default:g}" if isinstance(default, float) else str(default)}


def test_the_readme_has_every_command():
    documented = [code(row[0]) for row in rows(section(read("README.md"), "## Commands"))[1:]]
    assert documented == [f"hostler {name}" for name in main.commands]


def test_every_setting_that_is_named_in_a_document_exists():
    names = {setting.name for setting in Settings.described()} | {"images", "registries", "kubernetes", "instances"}
    opt_ins = read("docs/additions.md").split("By a setting:")[1]
    for entry in re.findall(r"^- (`.*?):", opt_ins, re.MULTILINE):
        for name in re.findall(r"`\[?([a-z_0-9]+)\]?(?: = [^`]*)?`", entry):
            assert name in names | {"auto"}, entry


def test_the_readme_has_every_operation_that_is_hosted():
    hosted = next(row for row in rows(read("README.md")) if row[0] == "operations")[1]
    assert set(hosted.split(",")[0].split()) >= INVOCATIONS
    named = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", hosted)) - INVOCATIONS - {"CloudWatch"}
    assert named == {name for service in SERVICES.values() for name in service.operations}


# --- faults -------------------------------------------------------------------------------------------------------


def test_every_effect_and_every_member_of_a_fault_is_described():
    described = rows(section(read("docs/faults.md"), "## What a rule says"))
    header = ["`effect`", "its members", "what the caller gets"]
    members, effects = described[1 : described.index(header)], described[described.index(header) + 1 :]
    assert {code(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in effects} == {
        name: set(kind.members) for name, kind in KINDS.items()
    }
    named = {name for row in members for name in re.findall(r"`(\w+)`", row[0])}
    assert named | set().union(*(kind.members for kind in KINDS.values())) == {*Rule.__dataclass_fields__}


# --- metrics ------------------------------------------------------------------------------------------------------


def test_every_metric_is_documented():
    exported = set(re.findall(r'"(hostler_\w+)"', read("src/hostler/control/metrics.py")))
    assert {
        code(row[0]).removesuffix("_total") for row in rows(read("docs/metrics.md").split("\n## ")[0])[1:]
    } == exported


def test_the_access_logs_fields_are_described_in_their_order():
    described = rows(section(read("docs/metrics.md"), "## The access log"))[1:]
    assert tuple(code(row[0]) for row in described) == Line.__struct_fields__


# --- files --------------------------------------------------------------------------------------------------------


def test_every_file_and_folder_of_the_architectures_tree_exists():
    tree = re.search(r"```\n(src/hostler/\n.*?)```", read("docs/ARCHITECTURE.md"), re.DOTALL)
    assert tree
    for line in re.sub(r"\n {4,}", " ", tree[1]).splitlines():  # an entry may go on in the next line
        entry, _, rest = line.partition("  ") if not line.startswith(" ") else line.strip().partition("  ")
        folder = ROOT if not line.startswith(" ") else ROOT / "src/hostler"
        for name in entry.split():
            assert (folder / name).exists(), line
        inside = folder / entry if entry.endswith("/") else folder
        for name in re.findall(r"[\w/-]+\.(?:py|json|md)|\w+/(?= |$)", rest):
            assert (inside / name).exists(), f"{name} in {line}"


STAND_INS = ROOT / "src/hostler/servers/images/modules"  # under the names of AWS's own modules


def test_the_architectures_tree_names_every_package():
    for package in (ROOT / "src/hostler").glob("**/*/__init__.py"):
        if package.is_relative_to(STAND_INS):
            continue
        assert f"\n  {package.parent.relative_to(ROOT / 'src/hostler')}/ " in read("docs/ARCHITECTURE.md")


def test_the_architectures_tree_names_every_module():
    tree = section(read("docs/ARCHITECTURE.md"), "## The tree").split("```")[1]
    entries = dict(re.findall(r"^  ([\w/]+)/ (.*?)(?=^ {0,2}\S)", tree, re.MULTILINE | re.DOTALL)) | {".": tree}
    for module in (ROOT / "src/hostler").rglob("*.py"):
        if not module.name.startswith("__") and not module.is_relative_to(STAND_INS):
            assert re.search(rf"\b{module.name}\b", entries[str(module.parent.relative_to(ROOT / "src/hostler"))]), (
                module
            )


def test_every_name_that_the_architecture_finds_in_a_file_is_defined_there():
    table = section(read("docs/ARCHITECTURE.md"), "## Where is …?")
    answers = re.findall(r"`(?:\w+\.)?(\w+)` in `(src/[^`]+)`", table)
    assert len(answers) >= 10
    for name, path in answers:
        assert re.search(rf"^ *(?:(?:async )?def|class) {name}\b|^{name}\b.* = ", read(path), re.MULTILINE), (
            name,
            path,
        )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_exists(document: Path):
    text = document.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", re.sub(r"`[^`\n]*`", "", text)):
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`(?:[\w./]*python )?((?:src|tests|docs|bench|requirements|\.ci)/[^`\s*<]*)[`\s]", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_section_that_a_document_links_to_exists(document: Path):
    for target, section in re.findall(r"\]\(((?!https?:)[^)#]*)#([^)]+)\)", document.read_text()):
        text = (document.parent / target if target else document).read_text()
        titles = [re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
        assert section in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, section


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_a_document_names_exists(document: Path):
    targets = set(re.findall(r"^([a-z][a-z0-9 ]*):", read("Makefile"), re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    for name in re.findall(r"`make (\w+)`", document.read_text()):
        assert name in known


def test_the_floors_name_modules_that_exist():
    for contract in PROJECT["tool"]["importlinter"]["contracts"]:
        for floor in contract.get("layers", contract.get("forbidden_modules", [])):
            for module in floor.split(" | "):
                path = ROOT / "src" / module.replace(".", "/")
                assert path.is_dir() or path.with_suffix(".py").is_file(), module


# --- the specification --------------------------------------------------------------------------------------------

NAMING = [
    path
    for folder in ("src", "tests", "bench", "docs", ".")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*")
    if path.suffix in (".py", ".md") and path != ROOT / "docs/specification.md" and path != Path(__file__)
]


def named(text: str) -> set[str]:
    """The sections ("4.5"), rules ("rule 28") and appendices ("appendix B") that a text names; not those of RFCs."""
    text = re.sub(r"\n[ \t]*(?:#|//|\*)?[ \t]*", " ", text)  # a list of numbers may go on in the next line
    found = {number for rfc, number in re.findall(r"(\bRFC \d+,? )?§(\d+(?:\.\d+)*)", text) if not rfc}
    for numbers in re.findall(r"\brules? (\d+(?:(?:-|, | and |, and )\d+)*)", text, re.IGNORECASE):
        for part in re.split(r", and | and |, ", numbers):
            first, _, last = part.partition("-")
            found |= {f"rule {number}" for number in range(int(first), int(last or first) + 1)}
    return found | {f"appendix {letter}" for letter in re.findall(r"\bappendix ([A-Z])\b", text, re.IGNORECASE)}


def there() -> tuple[set[str], set[str]]:
    """The chapters ("4"), and the sections and rules of the specification."""
    text = read("docs/specification.md")
    rules = {f"rule {number}" for number in re.findall(r"^\| (\d+) \| ", section(text, "## 3. Rules"), re.MULTILINE)}
    sections = re.findall(r"^### (\d+\.\d+) \S", text, re.MULTILINE)
    assert len(sections) == len(set(sections))
    return set(re.findall(r"^## (\d+)\. \S", text, re.MULTILINE)), {*sections, *rules}


def facts() -> list[tuple[str, str]]:
    """(section, text) of each fact: a row of a table, but for its head, or an entry of a list."""
    found, where = [], ""
    text = read("docs/specification.md").split("\n## Sources")[0]
    for line in re.sub(r"(?<=\S)\n  (?=\S)", " ", text).splitlines():
        if line.startswith("##"):
            where = line.strip("# ")
        elif where and re.match(r"- |\d+\. |\| (?!.*\| evidence \|$)", line):
            found.append((where, line))
    return found


def test_what_a_text_names_is_read_from_it():
    text = "As §4.5 (§2.10, §3 rules 1-3, 7 and 9) says.\n# Rule\n# 28; not RFC 9110 §7.6.1, but §5 and Appendix C."
    rules = {f"rule {number}" for number in (1, 2, 3, 7, 9, 28)}
    assert named(text) == {"4.5", "2.10", "3", "5", "appendix C", *rules}
    assert named("rules of §6, which has 3 of them") == {"6"}


def test_whatever_is_named_of_the_specification_is_there():
    chapters, parts = there()
    assert len(chapters) >= 8
    assert len(parts) >= 60
    naming = {path: found for path in NAMING if (found := named(path.read_text()))}
    assert len(naming) >= 40
    for path, found in naming.items():
        assert found <= chapters | parts, path


def test_whatever_is_in_the_specification_is_named():
    chapters, parts = there()
    found = set().union(*(named(path.read_text()) for path in NAMING))
    assert not parts - found
    assert chapters <= {name.split(".")[0] for name in found}


def test_every_fact_of_the_specification_says_how_sure_it_is():
    assert len(facts()) >= 250
    for where, fact in facts():
        assert re.search(r"`\[(?:M|P|D\+?|S|I)\b[^\]`]*\]`|\(unverified\)|\(ours\)", fact), f"{where}: {fact}"


def test_every_source_that_the_specification_names_is_listed():
    text, _, sources = read("docs/specification.md").partition("\n## Sources\n")
    pages, code_of, issues_of = re.split(r"\nSource code, |\nIssues and pull requests, ", sources)
    for kind, listed in {"D": pages, "S": code_of, "I": issues_of}.items():
        known = set(re.findall(r"^\| \[?`([\w-]+)`", listed, re.MULTILINE))
        used = set(re.findall(rf"`\[{kind}\+? ([\w-]+)(?:#\d+)?\]`", text)) - {"page", "name"}
        assert len(known) >= 5
        assert used == known


# --- versions -----------------------------------------------------------------------------------------------------


def test_the_changelog_has_this_version_on_top():
    assert re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)[:2] == ["Unreleased", __version__]


def test_an_image_of_ours_that_is_named_with_a_version_has_this_one():
    named = 0
    for path in [*DOCUMENTS, *ROOT.glob("deploy/**/*")]:
        if path.is_file() and path.suffix != ".pyc" and path.name != "CHANGELOG.md":
            for version in re.findall(r"\bhostler(?:-server)?:(\d+\.[\w.]*)", path.read_text()):
                named += 1
                assert version == __version__, path
    assert named >= 2


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_versions_and_no_index(lock: Path):
    for line in lock.read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*( ; [\w .<>='!]+)?", line), line


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_every_dependency_in_its_range(lock: Path):
    from packaging.requirements import Requirement

    locked = dict(line.split(" ;")[0].split("==") for line in lock.read_text().splitlines())
    extras, groups = LOCKED[lock.name]
    wanted = [] if extras is None else [*PROJECT["project"]["dependencies"]]
    wanted += [text for extra in (extras or "").split() for text in EXTRAS[extra]]
    wanted += [text for group in groups.split() for text in PROJECT["dependency-groups"][group]]
    for text in wanted:
        requirement = Requirement(text)
        assert requirement.specifier.contains(locked[requirement.name]), text


def test_the_locks_of_the_demo_and_of_the_tests_agree():
    small, large = ({*read(f"requirements/{name}.txt").splitlines()} for name in ("demo", "test"))
    assert small <= large


def test_the_oldest_lock_has_the_lowest_version_of_each_dependency():
    from packaging.requirements import Requirement
    from packaging.version import Version

    locked = dict(line.split(" ;")[0].split("==") for line in read("requirements/oldest.txt").splitlines())
    wanted = [*PROJECT["project"]["dependencies"]]
    wanted += [text for extra in LOCKED["oldest.txt"][0].split() for text in EXTRAS[extra]]
    for requirement in map(Requirement, wanted):
        [lowest] = [each.version for each in requirement.specifier if each.operator == ">="]
        assert Version(locked[requirement.name]) == Version(lowest), requirement
