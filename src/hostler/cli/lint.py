"""`hostler lint`: find the faults that would make an archive fail, before anything starts.

It extracts the archive as control does, and looks for a model as the servers do, by the same code. It never imports,
unpickles or runs anything of the archive: a script is only parsed.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import importlib.util
import os
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from hostler import contract, failures
from hostler.artifacts.archive import ArchiveLimits, extract
from hostler.engines import images
from hostler.errors import ArtifactBad, UserError
from hostler.failures import Code
from hostler.host import namespaces
from hostler.servers import environment
from hostler.servers.frameworks import artifact, huggingface, installed, model_check, requirements
from hostler.servers.frameworks.predictor import Unloadable
from hostler.settings import Settings
from hostler.text import printable

Level = Literal["error", "warning"]

# The model file of each framework, as its server finds it: by these names, else the only file with these endings.
_MODEL_FILES = {
    "sklearn": (artifact.PICKLES, artifact.PICKLE_ENDINGS),
    "torch": (artifact.TORCH_FILES, artifact.TORCH_ENDINGS),
    "onnx": (artifact.ONNX_FILES, artifact.ONNX_ENDINGS),
    "catboost": (artifact.CATBOOST_FILES, artifact.CATBOOST_ENDINGS),
    "lightgbm": (artifact.LIGHTGBM_FILES, artifact.LIGHTGBM_ENDINGS),
}
_TRANSFORM = "transform_fn"
_STEPS = ("input_fn", "predict_fn", "output_fn")
_REQUIREMENTS = "requirements.txt"
_LONGEST_SCRIPT = 2**20  # bytes; a longer one is not parsed


@dataclass(frozen=True)
class Finding:
    """`where`: the archive or a member of it, perhaps with a line. `message`: the fault and its remedy.

    `code`: of the failure that a server would report; empty if no server would fail.
    """

    level: Level
    where: str
    message: str
    code: str = ""

    def __str__(self) -> str:
        return printable(f"{self.level}: {self.where}: {self.message}")


@dataclass(frozen=True)
class Report:
    """`server`: the server that would serve the archive, in words; empty if there is none."""

    findings: tuple[Finding, ...]
    server: str = ""

    @property
    def failed(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)


def lint(archive: Path, image: str, settings: Settings, variables: Mapping[str, str] = MappingProxyType({})) -> Report:
    """Examine an archive, for an image's URI (empty: an unknown image) and the container's Environment.

    Raises UserError if the file cannot be read, DiskFull if there is no room to extract it.
    """
    findings: list[Finding] = []
    choice = images.Choice(images.Server(framework="auto"))
    if image:
        choice = images.choose(image, settings, has_artifact=True)
    itself = choice.server is None and bool(choice.reference) and settings.engine != "process"
    server = choice.server or choice.fallback
    if server is None and not itself:
        findings.append(Finding("error", "--image", choice.refusal))
    limits = ArchiveLimits(settings.archive_max_bytes, settings.archive_max_files, settings.archive_max_ratio)
    with tempfile.TemporaryDirectory(prefix="hostler-lint-") as temporary:
        folder = Path(temporary, contract.MODEL_DIR)
        try:
            with archive.open("rb") as packed:
                extract(packed, archive.stat().st_size, folder, limits)
        except ArtifactBad as error:
            return Report((*findings, Finding("error", archive.name, f"{error} {error.advice}".rstrip())))
        except OSError as error:
            raise UserError(f"{archive} cannot be read: {error.strerror}") from None
        findings += _foreign_members(archive)
        if server is None:  # then no layout of the model is right or wrong
            return Report((*findings,), _in_docker(choice.reference) if itself else "")
        if server.command:
            return Report(
                (*findings,), f"the command {server.command[0]} under [images]: what it takes, it knows alone"
            )
        try:
            inspection = _Inspection(folder, server, variables)
        except ValueError as error:
            return Report((*findings, Finding("error", "--env", f"{error}.")))
        found = [*inspection.findings()]
        if not itself:
            return Report((*findings, *found), inspection.server)
        found = [replace(finding, level="warning") for finding in found]  # the image may take what our server does not
        return Report((*findings, *found), f"{_in_docker(choice.reference)}; else by {inspection.server or 'nothing'}")


def _in_docker(reference: str) -> str:
    return f"the image {reference} itself, if Docker has it or can pull it (lint --start tries that)"


def _foreign_members(archive: Path) -> Iterator[Finding]:
    """Warn of members that macOS adds to archives. The archive has been extracted before, so it can be read."""
    with tarfile.open(archive, "r:gz") as members:
        added = [member.name for member in members if _added_by_macos(member.name)]
    if added:
        yield Finding(
            "warning", added[0],
            f"macOS's tar has added {len(added)} such members. Here they are left out; handlers on AWS may stumble over"
            " them. Pack with COPYFILE_DISABLE=1 tar --no-xattrs -czf model.tar.gz -C FOLDER .",
        )  # fmt: skip


def _added_by_macos(name: str) -> bool:
    return name.rpartition("/")[2].startswith("._") or "__MACOSX" in name


class _Inspection:
    """The inspection of an extracted archive, for a server of our own."""

    def __init__(self, folder: Path, server: images.Server, variables: Mapping[str, str]) -> None:
        """Raises ValueError for a variable with which no server starts."""
        self._folder = folder
        self._variables = variables
        ours = {contract.ENV_FRAMEWORK: server.framework, contract.ENV_IMAGE: server.image}
        self._environment = environment.read({**variables, **ours, contract.ENV_BASE_DIR: str(folder.parent)})
        self._profile = self._environment.profile("script")
        self.server = ""

    def findings(self) -> Iterator[Finding]:
        files = [str(path.relative_to(self._folder)) for path in self._folder.rglob("*") if path.is_file()]
        try:
            framework = artifact.framework(self._folder, self._environment)
            script = artifact.program(self._folder, self._environment)
            models = self._model_files(framework)
            if framework == "huggingface":
                task = huggingface.task_of(self._folder, self._variables)
                self.server = f"hostler's own server for Hugging Face's models, for {task}"
        except Unloadable as error:
            yield self._no_model(error, files)
            return
        unnamed = self._unnamed_script()
        if models:
            model = models[0]
            self.server = f"hostler's own server for {framework}, with {', '.join(path.name for path in models)}"
            for path in models:
                if not path.stat().st_size:
                    message = f"{self._why_taken(path, models)}It is empty. Save the model again."
                    yield Finding("error", path.name, message, Code.MODEL_FILE)
                elif unnamed != path.name:
                    yield from self._form(framework, path, models)
            if script:
                yield Finding(
                    "warning", self._name(script),
                    f"On this image it is ignored, unless the container's Environment has {contract.ENV_PROGRAM}.",
                )  # fmt: skip
            elif unnamed:
                fate = "taken for the model" if unnamed == model.name else "ignored"
                yield Finding("warning", unnamed, f"It is {fate}, unless {_program_advice(unnamed)}")
        elif script:
            self.server = f"hostler's own server for scripts, with {self._name(script)}"
            yield from self._script(script)
        if missing := installed.missing(framework):
            need = f"{missing.cause[0].upper()}{missing.cause[1:]}, which is not installed here."
            yield Finding("error", framework, f"{need} {failures.extra(framework)}", missing.code)
        if framework == "script":
            yield from self._requirements()

    def _model_files(self, framework: str) -> list[Path]:
        """Return the files that a server would load. Raises Unloadable."""
        if framework == "xgboost":
            return artifact.xgboost_files(self._folder, self._environment)
        if framework not in _MODEL_FILES:
            return []
        file = artifact.model_file(self._folder, *_MODEL_FILES[framework])
        if framework == "torch":
            artifact.check_torchscript(file)
        return [file]

    def _form(self, framework: str, model: Path, models: list[Path]) -> Iterator[Finding]:
        for certain, problem in model_check.problems(framework, model):
            message = str(problem)
            if certain and len(models) > 1 and not model.name.startswith(artifact.XGBOOST_FILE):
                fault = message.removesuffix(failures.SAVE_XGBOOST)
                message = f"{self._why_taken(model, models)}{fault}{failures.leave_out('it')}"
            yield Finding("error" if certain else "warning", model.name, message, problem.code)

    def _why_taken(self, model: Path, models: list[Path]) -> str:
        if len(models) > 1:
            return f"{failures.EACH_FILE.capitalize()}. "
        names = (artifact.XGBOOST_FILE, *(name for names, _ in _MODEL_FILES.values() for name in names))
        return "" if model.name in names else "It is taken for the model, as the only such file. "

    def _unnamed_script(self) -> str:
        """Return a script in code/ or at the top that SAGEMAKER_PROGRAM could name. Empty: none, or that is set."""
        if self._environment.program_named:
            return ""
        folders = (self._folder / contract.CODE_DIR, self._folder)
        scripts = [self._name(path) for folder in folders for path in folder.glob("*.py")]
        return min(scripts, key=lambda name: (not name.startswith(contract.CODE_DIR), name), default="")

    def _no_model(self, error: Unloadable, files: list[str]) -> Finding:
        if error.code != Code.OTHER_SERVER and (folder := artifact.too_deep(files)):
            help = f"{failures.PACK_INSIDE}: {failures.pack_inside(folder)}"
            message = f"All files lie in this folder, none at the archive's top. {help}"
            return Finding("error", f"{folder}/", message, Code.FOLDER_TOO_DEEP)
        if self._environment.program_named and "://" in self._environment.submit_directory:
            self.server = f"hostler's own server for scripts, with {self._environment.program}"
            return Finding(
                "warning", self._environment.program, f"It lies in {self._environment.submit_directory}: not looked at."
            )
        if unnamed := self._unnamed_script():
            self.server = f"hostler's own server for scripts, if {contract.ENV_PROGRAM} names one"
            return Finding(
                "warning", unnamed, f"Good if {_program_advice(unnamed)} Without it, it fails: {error}.", error.code
            )
        return Finding("error", "the archive", f"{error}.", error.code)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._folder)

    # --- scripts ----------------------------------------------------------------------------------------------------

    def _script(self, script: Path) -> Iterator[Finding]:
        name = self._name(script)
        try:
            tree = _parsed(script)
        except _Unreadable as error:
            message = f"{error} Python will not import it."
            yield Finding("error", f"{name}{error.line}", message, Code.SCRIPT_RAISED)
            return
        defined = _Definitions(tree)
        if "model_fn" not in defined and not self._has_default_model():
            message = f"It has no model_fn. {failures.define_model_fn()}"
            yield Finding("error", name, message, Code.NO_MODEL_FN)
        beside = [step for step in _STEPS if step in defined.certain]
        if _TRANSFORM in defined.certain and beside:
            message = f"It has {_TRANSFORM} beside {', '.join(beside)}. Have one or the others, not both."
            yield Finding("error", name, message, Code.FUNCTIONS_CLASH)
        yield from self._imports(script.parent, name, tree)
        yield from self._opt_ml(name, tree)

    def _has_default_model(self) -> bool:
        """Whether the image loads a file of the artifact's for a script without model_fn."""
        profile = self._environment.profile("script")
        if profile.family == "huggingface":
            with contextlib.suppress(Unloadable):
                return bool(huggingface.task_of(self._folder, self._variables))
        endings = profile.default_model
        return any(name.endswith(endings) for name in artifact.files(self._folder))

    def _imports(self, folder: Path, name: str, tree: ast.Module) -> Iterator[Finding]:
        reported = set()
        for module, line, late in sorted(_imports(tree), key=lambda imported: imported[1]):
            if module in reported or _is_installed(module, [folder, *self._profile.module_folders()]):
                continue
            reported.add(module)
            when = "when that function is called" if late else "when it is loaded"
            yield Finding(
                "warning" if late else "error", f"{name}:{line}",
                f"It imports {module}, which is not installed here: it fails {when}. Install the package that has it"
                " where hostler is installed, or put the module beside the script.",
                Code.MODULE_MISSING,
            )  # fmt: skip

    def _opt_ml(self, name: str, tree: ast.Module) -> Iterator[Finding]:
        """Warn of the first path below /opt/ml, if this machine does not let scripts have that folder."""
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Constant) and _is_in_base(node.value)]
        if lines and (refused := namespaces.trial().opt_ml):
            yield Finding(
                "warning", f"{name}:{min(lines)}",
                f"It names a path in {contract.BASE_DIR}, which is there on AWS and not here ({refused}). Let"
                f" model_fn use the folder that it is given; elsewhere, take {contract.ENV_BASE_DIR} of the"
                f" environment, if that is set, instead of {contract.BASE_DIR}.",
            )  # fmt: skip

    def _requirements(self) -> Iterator[Finding]:
        for file in (self._folder / contract.CODE_DIR / _REQUIREMENTS, self._folder / _REQUIREMENTS):
            if file.is_file() and (missing := requirements.missing(file, self._profile)):
                yield Finding(
                    "warning", self._name(file),
                    f"It is not installed here by itself, and not installed are: {', '.join(missing)}. Where hostler is"
                    f" installed: pip install {' '.join(missing)}",
                )  # fmt: skip


def _program_advice(script: str) -> str:
    program = f"{contract.ENV_PROGRAM}={script.rpartition('/')[2]}"
    return f"the container's Environment has {program}, which the SageMaker SDK sets. To look at that: --env {program}"


class _Unreadable(Exception):
    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = f":{line}" if line else ""


def _parsed(script: Path) -> ast.Module:
    """Parse a script. Raises _Unreadable."""
    if script.stat().st_size > _LONGEST_SCRIPT:
        raise _Unreadable("It is too long to be a script.")
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(script.read_bytes())
    except SyntaxError as error:
        raise _Unreadable(f"{(error.msg or 'A syntax error').capitalize()}.", error.lineno) from None
    except (ValueError, RecursionError, MemoryError):
        raise _Unreadable("It is no Python source.") from None


class _Definitions:
    """The names that a module defines at its top. `certain`: without those that a star import may bring."""

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
    """Yield the statements, handlers and cases right inside a node, but no expressions, however deep they are."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child


def _top(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements that run when a module is imported. A stack, because each `elif` nests in the one before."""
    pending: list[ast.AST] = [tree]
    while pending:
        for child in _statements(pending.pop()):
            yield child
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                pending.append(child)


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Yield (top module, line, late) of each import whose failure nothing catches. Late: only a call runs it."""
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, late = pending.pop()
        for child in _statements(node):
            match child:
                case ast.Import(names=names, lineno=line):
                    yield from ((alias.name.partition(".")[0], line, late) for alias in names)
                case ast.ImportFrom(module=str(module), level=0, lineno=line):
                    yield module.partition(".")[0], line, late
                case ast.Try(handlers=[_, *_]):  # most likely its handlers are for a missing module
                    pending.append((ast.Module([*child.orelse, *child.finalbody], []), late))
                case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                    pending.append((ast.Module(child.orelse, []), late))
                case _:
                    pending.append((child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)))


def _is_in_base(value: object) -> bool:
    return isinstance(value, str) and f"{value}/".startswith(f"{contract.BASE_DIR}/")


def _is_installed(module: str, folders: Sequence[Path]) -> bool:
    files = [f"{module}{suffix}" for suffix in importlib.machinery.all_suffixes()]
    try:
        return (
            module in sys.stdlib_module_names
            or any((folder / module).is_dir() for folder in folders)
            or any((folder / file).is_file() for folder in folders for file in files)
            or importlib.util.find_spec(module) is not None  # finds a top module without importing it
        )
    except (ImportError, ValueError, OSError):  # OSError: a name that no file can have
        return False
