import ast

import structure
from structure import CYCLE, EXCEPTIONS, PACKAGE, SOURCE, Measures, Module, complaints, cycles, imports, measure


def modules(**texts: str) -> list[Module]:
    """Modules of a package `p`; a name that ends with `__init__` is a package's own."""
    return [
        Module(
            f"p.{name}".replace("__init__", "").rstrip("."),
            f"p/{name.replace('.', '/')}.py",
            text,
            ast.parse(text),
        )
        for name, text in texts.items()
    ]


def measured(**texts: str) -> Measures:
    return measure(modules(**texts), {})


def test_the_source_is_within_its_budgets_or_excepted_with_a_reason():
    found = structure.read(SOURCE, PACKAGE)
    assert complaints(measure(found, structure.complexities(SOURCE, found)), EXCEPTIONS) == []
    assert structure.lapses(found) == []


def test_every_function_has_a_complexity(tmp_path):
    (tmp_path / "p").mkdir()
    method = "class C:\n    @property\n    async def g(self):\n        if self and self:\n            return 2\n"
    (tmp_path / "p" / "a.py").write_text(f"def f(x):\n    return 1\n\n\n{method}")
    found = structure.read(tmp_path, "p")
    assert structure.complexities(tmp_path, found) == {"p/a.py: f": 1, "p/a.py: C.g": 2}


def test_files_classes_and_functions_are_measured_where_they_stand():
    found = measured(a="class C:\n    x = 1\n    def f(self, a, *, b): ...\n    async def g(self): ...\n")
    assert found.values["lines of a file"] == {"p/a.py": 4}
    assert found.values["methods of a class"] == {"p/a.py: C": 2}
    assert found.values["lines of a class"] == {"p/a.py: C": 4}
    assert found.values["arguments of a function"] == {"p/a.py: C.f": 2, "p/a.py: C.g": 0}


def test_an_import_is_that_of_the_module_and_not_of_its_package():
    found = modules(**{"a": "from p import b\nfrom p.c import d, other\nimport os, p.b\nfrom . import e\n", "b": "",
                       "c.__init__": "from .d import x\n", "c.d": "", "e": ""})  # fmt: skip
    assert imports(found[0], found, late=False) == {"p.b", "p.c", "p.c.d", "p.e"}
    assert imports(found[2], found, late=False) == {"p.c.d"}


def test_a_cycle_of_modules_that_load_each_other_is_over_the_budget():
    found = measured(
        a="import p.b\n", b="try:\n    import p.c\nexcept ImportError: ...\n", c="import p.a\n", d="import p.a\n"
    )
    assert found.cycles == [("p.a", "p.b", "p.c")]
    assert complaints(found, {}) == ["import cycle: 3 in p.a, p.b, p.c"]
    assert complaints(found, {(CYCLE, "p.a, p.b, p.c"): "they are one thing"}) == []


def test_a_cycle_that_a_later_import_closes_is_only_named():
    later = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.a\n"
    found = measured(a="import p.b\nimport p.c\n", b="def f():\n    import p.a\n", c=later)
    assert found.cycles == []
    assert found.late == [("p.a", "p.b", "p.c")]
    assert complaints(found, {}) == []


def test_two_cycles_are_told_apart():
    assert cycles({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}, "e": set()}) == [("a", "b"), ("c", "d")]


def test_an_exception_needs_a_reason_and_something_that_is_over_its_budget():
    found = measured(a="x = 1\n" * 501, b="")
    (over,) = complaints(found, {})
    assert over == "lines of a file: 501 in p/a.py"
    assert complaints(found, {("lines of a file", "p/a.py"): "a table of data"}) == []
    assert "has no reason" in complaints(found, {("lines of a file", "p/a.py"): " "})[0]
    assert "remove its exception" in complaints(measured(b=""), {("lines of a file", "p/b.py"): "once"})[0]


def test_code_below_the_api_has_types():
    text = "from typing import Any\nx: Any\n" + "y = 1\n" * 300
    assert structure.anys(modules(**{"store.a": text})) == 1000 / 302
    assert structure.lapses(modules(**{"store.a": text})) == ["Any below the API: 3.3 per 1,000 lines, more than 3"]
    assert structure.lapses(modules(**{"control.a": text, "aws.a": text, "cli.a": text, "s3.a": text})) == []


def test_below_the_api_no_member_of_awss_is_a_key():
    text = "a['ModelName']\nb.get('Mode', 1)\nc.pop('Tags')\n"
    found = [f"a member's name is a key: p/hosting/a.py, line {line}" for line in (1, 2, 3)]
    assert structure.lapses(modules(**{"hosting.a": text})) == found
    assert structure.lapses(modules(**{"control.a": text, "store.documents": text})) == []
    others = "a['mode']\nb.get('PATH')\nc['HOSTLER_X']\nd[Mode]\nf('ModelName')\nif 'Mode' in text: ...\n"
    assert structure.lapses(modules(**{"hosting.a": others})) == []
