"""The artifacts of one container, in its own folder.

    <folder>/models/<model id>/model    a target of a multi-model container
    <folder>/model                      the model of a single-model container
    <folder>/code                       the code that SAGEMAKER_SUBMIT_DIRECTORY names
    <folder>/.placed/<name>             the artifact that was placed there: kept after a target was discarded, so that
                                        the same version comes back as long as it is on disk (§6.7)
    <folder>/.placed/<model id>.was     a discarded target's folder, if it had nothing but its link

Our own servers get symbolic links to the shared copy; a third party's container, which may write beside its model,
gets copies. A folder with a link is moved away and back by one rename each: to remove it and make it anew would cost a
target that comes and goes ten times as much. Knows nothing of loading and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

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
    """Run a function in a thread. If cancelled, wait until the thread has ended, so that it writes nothing later."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():  # also if it is cancelled again
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # marks it as retrieved: no caller is left
        raise


class Placed(msgspec.Struct, frozen=True):
    """An artifact where a container can read it."""

    model_id: str  # the container's name for the target; `model` and `code` of a single-model container
    target: str  # empty for `model` and `code`
    bucket: str
    key: str
    version: str  # of the object; no two versions of any object have the same
    shown: str  # the folder's path, as the container sees it
    size: int  # bytes, extracted
    memory: int | None = None  # bytes that its last load took; None: it was never measured
    download: float = 0.0  # seconds; both are 0 if the artifact was on disk already
    extract: float = 0.0


class Storage(Protocol):
    """The artifacts of one container. Calls for one model id come one at a time.

    After a restart of control `known` comes first.
    """

    async def known(self, held: Collection[str]) -> dict[str, Placed]:
        """Return the targets in place, by model id; any others are removed.

        In place are those that the container holds (`held`: model ids), and those with a folder there: their load or
        unload was under way.
        """

    async def fetch(self, model_id: str, target: str, bucket: str, key: str) -> Placed:
        """Place a target's artifact. The version that was in place before comes back if it is still on disk (§6.7).

        Raises ArtifactError.
        """

    async def fetch_model(self, bucket: str, key: str) -> Placed:
        """Place the model of a single-model container: a copy of its own (§5.3). Raises ArtifactError."""

    async def fetch_code(self, bucket: str, key: str) -> Placed:
        """Place a user's packed code. Raises ArtifactError."""

    async def discard(self, model_id: str, *, forget: bool = False) -> None:
        """Take a target out. Its artifact stays on disk until the room is needed, or leaves at once (`forget`)."""

    async def remember(self, model_id: str, memory: int) -> None:
        """Keep the measured memory (bytes) of a target in place, for as long as its artifact is on disk."""

    async def close(self) -> None:
        """Give up every artifact: the container has ended."""


class _Note(msgspec.Struct, frozen=True):
    """The content of a file in `.placed`."""

    target: str
    bucket: str
    key: str
    id: str
    size: int


class LocalStorage:
    """Artifacts on this machine, below `folder`. `copy`: copies instead of links, for a third party's container.

    `shown`: the folder's path, as the container sees it.
    """

    def __init__(self, folder: Path, cache: ArtifactCache, *, copy: bool, shown: str = "") -> None:
        self.shown = shown or str(folder)
        self._cache = cache
        self._folder = folder
        self._copy = copy
        self._versions: dict[str, str] = {}  # model id -> version in place
        self._acquired: dict[str, str] = {}  # model id -> artifact, acquired as long as its link is in place

    async def known(self, held: Collection[str]) -> dict[str, Placed]:
        return await in_thread(self._known)

    async def fetch(self, model_id: str, target: str, bucket: str, key: str) -> Placed:
        """Place a target at `models/<model_id>/model`."""
        path = f"{contract.MODELS_DIR}/{model_id}/{contract.MODEL_DIR}"
        return await self._fetch(model_id, target, bucket, key, path, link=not self._copy)

    async def fetch_model(self, bucket: str, key: str) -> Placed:
        """Place the model at `model`."""
        return await self._fetch("model", "", bucket, key, contract.MODEL_DIR, link=False)

    async def fetch_code(self, bucket: str, key: str) -> Placed:
        """Place the code at `code`."""
        return await self._fetch("code", "", bucket, key, "code", link=False)

    async def discard(self, model_id: str, *, forget: bool = False) -> None:
        if self._copy or not self._move_away(model_id):
            await in_thread(self._remove, model_id)
        self._release(model_id)
        version = self._versions.pop(model_id, None)
        if forget and version:
            await asyncio.to_thread(self._cache.forget, version)

    async def remember(self, model_id: str, memory: int) -> None:
        if version := self._versions.get(model_id):
            await self._cache.remember(version, memory)

    async def close(self) -> None:
        """Release every artifact. The caller removes the folder."""
        while self._acquired:
            self._cache.release(self._acquired.popitem()[1])

    # --- placing --------------------------------------------------------------------------------------------------

    async def _fetch(self, name: str, target: str, bucket: str, key: str, path: str, *, link: bool) -> Placed:
        """Place an artifact at `path` below the folder.

        1. Acquire the version that was placed there before, if it is still on disk (§6.7); else fetch the present one.
        2. If the same link was moved away, move it back.
        3. Else write the note, then make the link or the copy, in a thread.
        """
        previous = self._note(name)
        same_object = previous and (previous.bucket, previous.key) == (bucket, key)
        fetched = self._cache.acquire(previous.id) if previous and same_object else None  # 1.
        fetched = fetched or await self._cache.fetch(bucket, key)
        note = _Note(target, bucket, key, fetched.id, fetched.size)
        if link and note == previous and self._move_back(name, fetched.path):  # 2.
            self._keep_acquired(name, fetched.id)
        else:
            await in_thread(self._put, name, note, fetched, path, link)  # 3.
        self._versions[name] = fetched.id
        return msgspec.structs.replace(
            self._placed(name, note, path), download=fetched.download, extract=fetched.extract
        )

    def _placed(self, name: str, note: _Note, path: str) -> Placed:
        memory = self._cache.memory(note.id)
        return Placed(name, note.target, note.bucket, note.key, note.id, f"{self.shown}/{path}", note.size, memory)

    def _known(self) -> dict[str, Placed]:
        placed: dict[str, Placed] = {}
        try:
            model_ids = [path.name for path in self._resolve(contract.MODELS_DIR).iterdir()]
        except (OSError, StorageUnavailable):
            return {}
        for model_id in model_ids:
            path = f"{contract.MODELS_DIR}/{model_id}/{contract.MODEL_DIR}"
            note = self._note(model_id)
            if note is None or not self._acquire(model_id, note.id, self._folder / path):
                self._remove(model_id)
                self._release(model_id)
                continue
            self._versions[model_id] = note.id
            placed[model_id] = self._placed(model_id, note, path)
        return placed

    def _put(self, name: str, note: _Note, fetched: Fetched, path: str, link: bool) -> None:
        """Put an artifact in place. With a link it stays acquired; with a copy, or on an error, it is released."""
        try:
            self._write(name, note, fetched.path, path, link)
        except BaseException as error:
            self._cache.release(fetched.id)
            if isinstance(error, OSError | shutil.Error):
                raise _translated(error) from None
            raise
        if link:
            self._keep_acquired(name, fetched.id)
        else:
            self._cache.release(fetched.id)

    def _keep_acquired(self, name: str, id: str) -> None:
        """Keep an artifact acquired for the link `name`; release the one that the link had before."""
        self._release(name)
        self._acquired[name] = id

    def _release(self, name: str) -> None:
        if id := self._acquired.pop(name, None):
            self._cache.release(id)

    def _write(self, name: str, note: _Note, shared: Path, path: str, link: bool) -> None:
        """Write the note, then the link or copy: whatever is in place has its note."""
        folder, _, last = path.rpartition("/")
        destination = (self._resolve(folder) if folder else self._folder) / last
        notes = self._resolve(_NOTES)
        notes.mkdir(exist_ok=True)
        draft = notes / f"{name}.new"
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # never writes through a link
            file.write(msgspec.json.encode(note))
        draft.replace(notes / name)
        _remove(notes / f"{name}{_WAS}")
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove(destination)
        if link:
            destination.symlink_to(shared)
        else:
            unfinished = destination.with_name(f".{destination.name}.new")
            _remove(unfinished)
            shutil.copytree(shared, unfinished)
            unfinished.rename(destination)

    def _remove(self, model_id: str) -> None:
        _remove(self._resolve(contract.MODELS_DIR) / model_id)

    # The next two make a few system calls of microseconds each, and so run on the event loop: a thread would cost ten
    # times as much.

    def _move_away(self, model_id: str) -> bool:
        """Move a target's folder out of `models`, for later. False if it has anything but a link, or no link."""
        with contextlib.suppress(OSError), self._open_folders() as (models, notes):
            with _open_folder(model_id, models) as folder:
                os.readlink(contract.MODEL_DIR, dir_fd=folder)
                only_link = os.listdir(folder) == [contract.MODEL_DIR]
            if only_link:
                os.rename(model_id, f"{model_id}{_WAS}", src_dir_fd=models, dst_dir_fd=notes)
            return only_link
        return False

    def _move_back(self, model_id: str, shared: Path) -> bool:
        """Move a target's folder back into `models`. False if there is none, or if its link is another artifact's."""
        was = f"{model_id}{_WAS}"
        with contextlib.suppress(OSError), self._open_folders() as (models, notes):
            with _open_folder(was, notes) as folder:
                if os.readlink(contract.MODEL_DIR, dir_fd=folder) != str(shared):
                    return False
            os.rename(was, model_id, src_dir_fd=notes, dst_dir_fd=models)
            return True
        return False

    @contextlib.contextmanager
    def _open_folders(self) -> Iterator[tuple[int, int]]:
        """Open the folders `models` and `.placed`; yield their descriptors."""
        with _open_folder(self._folder / contract.MODELS_DIR) as models, _open_folder(self._folder / _NOTES) as notes:
            yield models, notes

    def _resolve(self, *parts: str) -> Path:
        """Return a path in the folder. Whatever links a container puts there, we never write elsewhere."""
        try:
            return names.resolve(self._folder, "/".join(parts))
        except (names.UnsafeName, OSError, RuntimeError):  # RuntimeError: links in a circle
            raise StorageUnavailable("The container has put a link in the place of a folder of ours.") from None

    def _note(self, name: str) -> _Note | None:
        with contextlib.suppress(OSError, msgspec.DecodeError), _open_folder(self._folder / _NOTES) as notes:
            note = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=notes)  # not blocked by a pipe
            with open(note, "rb") as file:
                return msgspec.json.decode(file.read(_LONGEST), type=_Note)
        return None

    def _acquire(self, model_id: str, id: str, path: Path) -> bool:
        """Acquire the artifact of a target, if that is a link. Return whether the target is in place."""
        if not path.is_symlink():
            return path.is_dir()
        if self._acquired.get(model_id) == id:
            return path.is_dir()
        fetched = self._cache.acquire(id)
        if fetched is None:
            return False
        self._acquired[model_id] = id
        return path.readlink() == fetched.path


@contextlib.contextmanager
def _open_folder(folder: Path | str, within: int | None = None) -> Iterator[int]:
    """Open a folder, so that a container cannot put anything else in its place. Raises OSError, also for a link."""
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
    """Return a copy's error as one of ours, without paths. copytree hides the error numbers in a list of texts."""
    text = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or f"[Errno {errno.ENOSPC}]" in text:
        return DiskFull("There is no room on the disk for the container's own copy of the artifact.")
    return StorageUnavailable("The container's folder cannot be written.")
