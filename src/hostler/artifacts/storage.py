"""The artifacts of one container: what of the shared disk it has, in its own folder.

    <folder>/models/<model id>/model    a target of a multi-model container
    <folder>/model                      the model of a single-model container
    <folder>/code                       what SAGEMAKER_SUBMIT_DIRECTORY points at
    <folder>/.placed/<name>             which artifact that was: kept after a target was discarded, so that the same
                                        version comes back as long as it is on disk (§6.7)
    <folder>/.placed/<model id>.was     a discarded target's folder, if it held its link alone

Our own servers get symbolic links to the shared copy; a third party's container, which may write beside its model,
gets copies. A folder with a link moves there and back by one rename each: making and removing it costs a target that
comes and goes ten times that. Knows nothing of loading and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from hostler import contract, names
from hostler.artifacts.cache import ArtifactCache, Fetched
from hostler.errors import DiskFull, StorageUnavailable

_NOTES = ".placed"
_WAS = ".was"
_LONGEST = 65_536  # bytes of a note
_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """asyncio.to_thread, but whoever cancels it waits until the thread is through: it writes nothing afterwards."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():  # also when it is cancelled again
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody is there any more to hear of it
        raise


@dataclass(frozen=True)
class Placed:
    """An artifact in the container's folder."""

    model_id: str  # the container's name for the target; `model` and `code` for a single model's parts
    target: str  # empty for these
    bucket: str
    key: str
    id: str  # the artifact, as Disk knows it
    path: Path
    size: int  # bytes, extracted
    download: float = 0.0  # seconds; both are 0 when it was on disk
    extract: float = 0.0


class _Note(msgspec.Struct, frozen=True):
    """What a file in `.placed` says."""

    target: str
    bucket: str
    key: str
    id: str
    size: int


class InstanceStorage:
    """Artifacts below `folder`; `copy` for containers that are not ours.

    `fetch*` and `discard` belong to the event loop; `placed` and `close` block and are called in a thread. One call at
    a time for one model id. After a restart, `placed` comes first: it holds again what the container uses.
    """

    def __init__(self, folder: Path, disk: ArtifactCache, *, copy: bool) -> None:
        self.disk = disk
        self._folder = folder
        self._copy = copy
        self._acquired: dict[str, str] = {}  # model id -> artifact held for as long as its link is there

    async def fetch(self, model_id: str, target: str, bucket: str, key: str) -> Placed:
        """Place a target at `models/<model_id>/model`. Raises ArtifactError."""
        where = f"{contract.MODELS_DIR}/{model_id}/{contract.MODEL_DIR}"
        return await self._place(model_id, target, bucket, key, where, link=not self._copy)

    async def fetch_model(self, bucket: str, key: str) -> Placed:
        """Place the model of a single-model container at `model`: a copy of its own (§5.3). Raises ArtifactError."""
        return await self._place("model", "", bucket, key, contract.MODEL_DIR, link=False)

    async def fetch_code(self, bucket: str, key: str) -> Path:
        """Place a user's packed code at `code` and say where that is. Raises ArtifactError."""
        return (await self._place("code", "", bucket, key, "code", link=False)).path

    def placed(self) -> dict[str, Placed]:
        """The targets that are in place, by model id. One whose artifact is gone is no longer in place."""
        placed: dict[str, Placed] = {}
        try:
            model_ids = [path.name for path in self._inside(contract.MODELS_DIR).iterdir()]
        except (OSError, StorageUnavailable):
            return {}
        for model_id in model_ids:
            path = self._folder / contract.MODELS_DIR / model_id / contract.MODEL_DIR
            note = self._note(model_id)
            if note is None or not self._hold(model_id, note.id, path):
                self._remove(model_id)
                self._let_go(model_id)
                continue
            placed[model_id] = Placed(model_id, note.target, note.bucket, note.key, note.id, path, note.size)
        return placed

    async def discard(self, model_id: str) -> None:
        """Take a target out of the folder; the shared copy stays on disk until its room is needed."""
        if self._copy or not self._move_away(model_id):
            await in_thread(self._remove, model_id)
        self._let_go(model_id)

    def close(self) -> None:
        """Hold nothing any more; the folder is the caller's to remove."""
        while self._acquired:
            self.disk.release(self._acquired.popitem()[1])

    # --- how ------------------------------------------------------------------------------------------------------

    async def _place(self, name: str, target: str, bucket: str, key: str, where: str, *, link: bool) -> Placed:
        """The version that was placed before, if it is still on disk; else the present one."""
        before = self._note(name)
        fetched = self.disk.acquire(before.id) if before and (before.bucket, before.key) == (bucket, key) else None
        fetched = fetched or await self.disk.fetch(bucket, key)
        note = _Note(target, bucket, key, fetched.id, fetched.size)
        if link and note == before and self._move_back(name, fetched.path):
            self._keep(name, fetched.id)
        else:
            await in_thread(self._put, name, note, fetched, where, link)
        path = self._folder / where
        return Placed(name, target, bucket, key, fetched.id, path, fetched.size, fetched.download, fetched.extract)

    def _put(self, name: str, note: _Note, fetched: Fetched, where: str, link: bool) -> None:
        """Put it in place. A link keeps the hold of what was fetched, a copy gives it up."""
        try:
            self._make(name, note, fetched.path, where, link)
        except BaseException as error:
            self.disk.release(fetched.id)
            if isinstance(error, OSError | shutil.Error):
                raise _translated(error) from None
            raise
        if link:
            self._keep(name, fetched.id)
        else:
            self.disk.release(fetched.id)

    def _keep(self, name: str, id: str) -> None:
        """Its link has a hold from now on, instead of the one it may have had."""
        self._let_go(name)
        self._acquired[name] = id

    def _let_go(self, name: str) -> None:
        if held := self._acquired.pop(name, None):
            self.disk.release(held)

    def _make(self, name: str, note: _Note, shared: Path, where: str, link: bool) -> None:
        """The note first: what is in place is always known."""
        folder, _, last = where.rpartition("/")
        path = (self._inside(folder) if folder else self._folder) / last
        notes = self._inside(_NOTES)
        notes.mkdir(exist_ok=True)
        draft = notes / f"{name}.new"
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # through no link
            file.write(msgspec.json.encode(note))
        draft.replace(notes / name)
        _remove(notes / f"{name}{_WAS}")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(path)
        if link:
            path.symlink_to(shared)
        else:
            half = path.with_name(f".{path.name}.new")
            _remove(half)
            shutil.copytree(shared, half)
            half.rename(path)

    def _remove(self, model_id: str) -> None:
        _remove(self._inside(contract.MODELS_DIR) / model_id)

    # These two are a few calls of the system, each of microseconds, and so run on the event loop: handing them to a
    # thread and back costs ten times that.

    def _move_away(self, model_id: str) -> bool:
        """Out of `models`, for later. False: there is something beside its link, or no link."""
        with contextlib.suppress(OSError), self._both() as (models, notes):
            with _opened(model_id, models) as folder:
                os.readlink(contract.MODEL_DIR, dir_fd=folder)
                alone = os.listdir(folder) == [contract.MODEL_DIR]
            if alone:
                os.rename(model_id, f"{model_id}{_WAS}", src_dir_fd=models, dst_dir_fd=notes)
            return alone
        return False

    def _move_back(self, model_id: str, shared: Path) -> bool:
        """Into `models`. False: there is none, or its link leads elsewhere."""
        was = f"{model_id}{_WAS}"
        with contextlib.suppress(OSError), self._both() as (models, notes):
            with _opened(was, notes) as folder:
                if os.readlink(contract.MODEL_DIR, dir_fd=folder) != str(shared):
                    return False
            os.rename(was, model_id, src_dir_fd=notes, dst_dir_fd=models)
            return True
        return False

    @contextlib.contextmanager
    def _both(self) -> Iterator[tuple[int, int]]:
        """The folders `models` and `.placed`, open."""
        with _opened(self._folder / contract.MODELS_DIR) as models, _opened(self._folder / _NOTES) as notes:
            yield models, notes

    def _inside(self, *parts: str) -> Path:
        """A path in the folder. A container may do as it likes there, but never make us write elsewhere."""
        try:
            return names.resolve(self._folder, "/".join(parts))
        except (names.UnsafeName, OSError, RuntimeError):  # the last: links in a circle
            raise StorageUnavailable("The container has put a link in the place of a folder of ours.") from None

    def _note(self, name: str) -> _Note | None:
        with contextlib.suppress(OSError, msgspec.DecodeError), _opened(self._folder / _NOTES) as notes:
            note = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=notes)  # a pipe is no note
            with open(note, "rb") as file:
                return msgspec.json.decode(file.read(_LONGEST), type=_Note)
        return None

    def _hold(self, model_id: str, id: str, path: Path) -> bool:
        if not path.is_symlink():
            return path.is_dir()
        if self._acquired.get(model_id) == id:
            return path.is_dir()
        fetched = self.disk.acquire(id)
        if fetched is None:
            return False
        self._acquired[model_id] = id
        return path.readlink() == fetched.path


@contextlib.contextmanager
def _opened(folder: Path | str, within: int | None = None) -> Iterator[int]:
    """A folder's descriptor, by which what a container puts in its place later changes nothing. A link is none.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _translated(error: OSError) -> Exception:
    """A copy's troubles, without paths; copytree hides their numbers in a list of texts."""
    text = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or f"[Errno {errno.ENOSPC}]" in text:
        return DiskFull("There is no room on the disk for the container's own copy of the artifact.")
    return StorageUnavailable("The container's folder cannot be written.")
