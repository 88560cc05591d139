"""`hostler lint`: what would make an archive fail, found before anything starts.

It extracts as control does, and looks for a model as the servers do, by the same code. Nothing of the archive is ever
imported, unpickled or run: a script is only parsed.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from hostler import contract, failures
from hostler.artifacts.archive import Limits, extract
from hostler.engines import images
from hostler.errors import ArtifactBad, EngineError, UserError
from hostler.failures import Code
from hostler.servers import environment
from hostler.servers.frameworks import artifact, registry, requirements
from hostler.servers.frameworks.predictor import Unloadable
from hostler.settings import Settings

Level = Literal["error", "warning"]

# Which file each framework takes for the model, as its server does: first these names, then the only one that ends so.
_MODELS = {
    "xgboost": ((artifact.XGBOOST_FILE,), ("",)),
    "sklearn": (artifact.PICKLES, artifact.PICKLE_ENDINGS),
    "torch": (artifact.TORCH_FILES, artifact.TORCH_ENDINGS),
    "onnx": (artifact.ONNX_FILES, artifact.ONNX_ENDINGS),
}
_TRANSFORM = "transform_fn"
_STEPS = ("input_fn", "predict_fn", "output_fn")
_REQUIREMENTS = "requirements.txt"
_SCRIPT_MOST = 2**20  # bytes of a script that is parsed


@dataclass(frozen=True)
class Finding:
    """`where` names the archive, or a member of it, perhaps with a line. `what` is what is wrong and what helps.

    `code`: that of the failure which a server would leave; empty for what no server fails of.
    """

    level: Level
    where: str
    what: str
    code: str = ""

    def __str__(self) -> str:
        line = f"{self.level}: {self.where}: {self.what}"
        return "".join(letter if letter.isprintable() else "?" for letter in line)


@dataclass(frozen=True)
class Report:
    """`server`: what would serve it, as far as that can be told."""

    findings: tuple[Finding, ...]
    server: str = ""

    @property
    def failed(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)


def lint(archive: Path, image: str, settings: Settings, variables: Mapping[str, str] = MappingProxyType({})) -> Report:
    """Look an archive over, for an image's URI (empty: one that nobody knows) and the container's Environment.

    Raises UserError when there is no such file, and DiskFull when there is no room to extract it.
    """
    found: list[Finding] = []
    server = images.Server(framework="auto")
    if image:
        try:
            server = images.resolve(image, settings, has_artifact=True)
        except EngineError as error:
            found.append(Finding("error", "--image", str(error)))
    limits = Limits(settings.archive_max_bytes, settings.archive_max_files, settings.archive_max_ratio)
    with tempfile.TemporaryDirectory(prefix="hostler-lint-") as temporary:
        folder = Path(temporary, contract.MODEL_DIR)
        try:
            with archive.open("rb") as packed:
                extract(packed, archive.stat().st_size, folder, limits)
        except ArtifactBad as error:
            return Report((*found, Finding("error", archive.name, f"{error} {_repacked(error)}")))
        except OSError as error:
            raise UserError(f"{archive} cannot be read: {error.strerror}") from None
        failed = bool(found)  # with no server for it, nobody can say how its model must lie there
        found += _foreign_members(archive)
        if failed:
            return Report((*found,))
        if server.command:
            return Report((*found,), f"the command {server.command[0]} under [images]: what it takes, it knows alone")
        try:
            look = _Look(folder, server.framework, variables)
        except ValueError as error:
            return Report((*found, Finding("error", "--env", f"{error}.")))
        return Report((*found, *look.findings()), look.server)


def _repacked(error: ArtifactBad) -> str:
    if error.fault == "link":
        return "Put the file itself there: tar --dereference -czf model.tar.gz -C FOLDER ."
    if error.fault == "limit":
        return "If that is meant so, raise archive_max_bytes, archive_max_files or archive_max_ratio in hostler.toml."
    return "Pack it again: tar -czf model.tar.gz -C FOLDER ."


def _foreign_members(archive: Path) -> Iterator[Finding]:
    """What macOS adds to archives. This one has been extracted once, so it can be read."""
    with tarfile.open(archive, "r:gz") as members:
        added = [one.name for one in members if one.name.rpartition("/")[2].startswith("._") or "__MACOSX" in one.name]
    if added:
        yield Finding(
            "warning", added[0],
            f"macOS's tar has added {len(added)} such members. Here they are left out; handlers on AWS may stumble over"
            " them. Pack with COPYFILE_DISABLE=1 tar --no-xattrs -czf model.tar.gz -C FOLDER .",
        )  # fmt: skip


class _Look:
    """A look at an extracted archive. `kind`: xgboost, sklearn, torch or auto, as images.py has it."""

    def __init__(self, folder: Path, kind: str, variables: Mapping[str, str]) -> None:
        """Raises ValueError for a variable that no server starts with."""
        self._folder = folder
        ours = {contract.ENV_FRAMEWORK: kind, contract.ENV_BASE_DIR: str(folder.parent)}
        self._told = environment.read({**variables, **ours})
        self.server = ""

    def findings(self) -> Iterator[Finding]:
        files = [str(path.relative_to(self._folder)) for path in self._folder.rglob("*") if path.is_file()]
        try:
            kind = artifact.framework(self._folder, self._told)
            script = artifact.program(self._folder, self._told)
            model = artifact.model_file(self._folder, *_MODELS[kind]) if kind in _MODELS else None
            if model is not None and kind == "torch":
                artifact.check_torchscript(model)
        except Unloadable as error:
            yield self._no_model(error, files)
            return
        other = self._other_script()
        if model is not None:
            self.server = f"hostler's own server for {kind}, with {model.name}"
            if not model.stat().st_size:
                taken = "" if model.name in _MODELS[kind][0] else "It is taken for the model, as the only such file. "
                yield Finding("error", model.name, f"{taken}It is empty. Save the model again.", Code.MODEL_FILE)
            if script:
                yield Finding(
                    "warning", self._name(script),
                    f"On this image it is ignored, unless the container's Environment has {contract.ENV_PROGRAM}.",
                )  # fmt: skip
            elif other:
                fate = "taken for the model" if other == model.name else "ignored"
                yield Finding("warning", other, f"It is {fate}, unless {_named(other)}")
        elif script:
            self.server = f"hostler's own server for scripts, with {self._name(script)}"
            yield from self._script(script)
        if missing := registry.missing(kind):
            need = f"{missing.cause[0].upper()}{missing.cause[1:]}, which is not installed here."
            yield Finding("error", kind, f"{need} {failures.extra(kind)}", missing.code)
        if kind == "script":
            yield from self._requirements()

    def _other_script(self) -> str:
        """A script that SAGEMAKER_PROGRAM may name, when nobody has said what that is: in code, or at the top."""
        if self._told.program_named:
            return ""
        found = [path for place in (self._folder / contract.CODE_DIR, self._folder) for path in place.glob("*.py")]
        return min(map(self._name, found), key=lambda name: (not name.startswith(contract.CODE_DIR), name), default="")

    def _no_model(self, error: Unloadable, files: list[str]) -> Finding:
        if folder := artifact.too_deep(files):
            help = f"{failures.PACK_INSIDE}: {failures.pack_inside(folder)}"
            what = f"All files lie in this folder, none at the archive's top. {help}"
            return Finding("error", f"{folder}/", what, Code.FOLDER_TOO_DEEP)
        if self._told.program_named and "://" in self._told.submit_directory:
            self.server = f"hostler's own server for scripts, with {self._told.program}"
            return Finding("warning", self._told.program, f"It lies in {self._told.submit_directory}: not looked at.")
        if other := self._other_script():
            self.server = f"hostler's own server for scripts, if {contract.ENV_PROGRAM} names one"
            return Finding("warning", other, f"Good if {_named(other)} Without it, it fails: {error}.", error.code)
        return Finding("error", "the archive", f"{error}.", error.code)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._folder)

    # --- scripts ----------------------------------------------------------------------------------------------------

    def _script(self, script: Path) -> Iterator[Finding]:
        name = self._name(script)
        try:
            tree = _parsed(script)
        except _Unreadable as error:
            what = f"{error} Python will not import it."
            yield Finding("error", f"{name}{error.line}", what, Code.SCRIPT_RAISED)
            return
        has = _Names(tree)
        if "model_fn" not in has:
            what = f"It has no model_fn. {failures.define_model_fn()}"
            yield Finding("error", name, what, Code.NO_MODEL_FN)
        beside = [step for step in _STEPS if step in has.certain]
        if _TRANSFORM in has.certain and beside:
            what = f"It has {_TRANSFORM} beside {', '.join(beside)}. Have one or the others, not both."
            yield Finding("error", name, what, Code.FUNCTIONS_CLASH)
        yield from self._imports(script.parent, name, tree)

    def _imports(self, folder: Path, name: str, tree: ast.Module) -> Iterator[Finding]:
        seen = set()
        for module, line, late in sorted(_imports(tree), key=lambda one: one[1]):
            if module in seen or _is_there(module, folder):
                continue
            seen.add(module)
            when = "when that function is called" if late else "when it is loaded"
            yield Finding(
                "warning" if late else "error", f"{name}:{line}",
                f"It imports {module}, which is not installed here: it fails {when}. Install the package that has it"
                " where hostler is installed, or put the module beside the script.",
                Code.MODULE_MISSING,
            )  # fmt: skip

    def _requirements(self) -> Iterator[Finding]:
        for file in (self._folder / contract.CODE_DIR / _REQUIREMENTS, self._folder / _REQUIREMENTS):
            if file.is_file() and (missing := requirements.absent(file)):
                yield Finding(
                    "warning", self._name(file),
                    f"It is not installed here by itself, and not installed are: {', '.join(missing)}. Where hostler is"
                    f" installed: pip install {' '.join(missing)}",
                )  # fmt: skip


def _named(script: str) -> str:
    program = f"{contract.ENV_PROGRAM}={script.rpartition('/')[2]}"
    return f"the container's Environment has {program}, which the SageMaker SDK sets. To look at that: --env {program}"


class _Unreadable(Exception):
    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = f":{line}" if line else ""


def _parsed(script: Path) -> ast.Module:
    """Raises _Unreadable."""
    if script.stat().st_size > _SCRIPT_MOST:
        raise _Unreadable("It is too long to be a script.")
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(script.read_bytes())
    except SyntaxError as error:
        raise _Unreadable(f"{(error.msg or 'A syntax error').capitalize()}.", error.lineno) from None
    except (ValueError, RecursionError, MemoryError):
        raise _Unreadable("It is no Python source.") from None


class _Names:
    """What a module defines at its top. `certain`: without what a star import may bring."""

    def __init__(self, tree: ast.Module) -> None:
        self.certain: set[str] = set()
        self._star = False
        for statement in _top(tree):
            match statement:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    self.certain.add(name)
                case ast.Import(names=names) | ast.ImportFrom(names=names):
                    self.certain |= {alias.asname or alias.name.partition(".")[0] for alias in names}
                    self._star |= any(alias.name == "*" for alias in names)
                case ast.Assign() | ast.AnnAssign():
                    self.certain |= {
                        node.id
                        for node in ast.walk(statement)
                        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                    }

    def __contains__(self, name: str) -> bool:
        return self._star or name in self.certain


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements right inside, and what holds some; never an expression, however deep."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child


def _top(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when a module is imported. An `elif` lies inside the one before: a stack is as deep as it takes."""
    inside: list[ast.AST] = [tree]
    while inside:
        for child in _statements(inside.pop()):
            yield child
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside.append(child)


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """(top module, line, whether only a call runs it) of each import that nothing around it makes up for."""
    inside: list[tuple[ast.AST, bool]] = [(tree, False)]
    while inside:
        node, late = inside.pop()
        for child in _statements(node):
            match child:
                case ast.Import(names=names, lineno=line):
                    yield from ((alias.name.partition(".")[0], line, late) for alias in names)
                case ast.ImportFrom(module=str(module), level=0, lineno=line):
                    yield module.partition(".")[0], line, late
                case ast.Try(handlers=[_, *_]):  # as far as can be told, they are there for a missing module
                    inside.append((ast.Module([*child.orelse, *child.finalbody], []), late))
                case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                    inside.append((ast.Module(child.orelse, []), late))
                case _:
                    inside.append((child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)))


def _is_there(module: str, folder: Path) -> bool:
    try:
        return (
            module in sys.stdlib_module_names
            or (folder / module).is_dir()
            or any((folder / f"{module}{suffix}").is_file() for suffix in importlib.machinery.all_suffixes())
            or importlib.util.find_spec(module) is not None  # a top module is looked for, not imported
        )
    except (ImportError, ValueError, OSError):  # the last: a name that no file can have
        return False
