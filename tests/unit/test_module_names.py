"""The modules that tests and benchmarks import by their bare names."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_two_modules_of_tests_or_benchmarks_have_the_same_name():
    """Whichever folder comes first on the path would hide the other's."""
    folders = [
        ROOT / "bench",
        *(folder for folder in [ROOT / "tests", *(ROOT / "tests").rglob("*")] if folder.is_dir()),
    ]
    importable = [
        folder for folder in folders if not (folder / "__init__.py").exists() and "images" not in folder.parts
    ]
    modules = Counter(
        module.name
        for folder in importable
        if folder.parent.name != "containers"  # each of its folders is what one container sees
        for module in folder.glob("*.py")
        if module.name != "conftest.py"
    )
    assert [name for name, times in modules.items() if times > 1] == []
