"""The artifacts of one container.

    <folder>/models/<model id>/model    a target of a multi-model container
    <folder>/model                      the model of a single-model container
    <folder>/additional-model-data-sources/<channel>   further data
    <folder>/code                       the code that SAGEMAKER_SUBMIT_DIRECTORY names
    <folder>/.removed/<name>            what hostler's user must not remove
    <folder>/.placed/<name>             the artifact that was placed there: kept after a target was discarded, so that
                                        the same version comes back as long as it is on disk (§6.7)
    <folder>-<hash>                     a copy that is being made, until it is moved to its place

A target that certainly runs no user's code needs no folder: our own servers are shown where it lies in the cache. One
that may run some gets a symbolic link there, which stays when the target leaves. A third party's container, which may
write beside its model, gets copies. Knows nothing of loading and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, ParamSpec, Protocol, TypeVar

import msgspec

from hostler import contract, folders
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.extractor import Fetched
from hostler.core.endpoints.resources import DataForm
from hostler.core.targets.placed import Placed
from hostler.errors import DiskFull, StorageUnavailable

_NOTES = ".placed"
_ASIDE = ".removed"
_LONGEST = 65_536  # bytes of a note
_PIECE = 1 << 16  # bytes of a sparse file that are copied at a time, and left a hole if all are zeros
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


class Storage(Protocol):
    """The artifacts of one container. Calls for one model id come one at a time, but a fetch may come while the target
    before it is taken out. After a restart of control `known` comes first. Storages with the same `disk` share one, and
    they alone can make room for each other.
    """

    @property
    def disk(self) -> Hashable: ...

    @property
    def away(self) -> bool:
        """Whether it cannot be asked just now: what is fetched waits for it, and then raises StorageAway."""

    async def known(self, held: Collection[str]) -> dict[str, Placed]:
        """Return the targets in place, by model id, acquired again.

        In place are those that the container holds (`held`: model ids), and those of which a copy is there: their load
        or unload was under way.
        """

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        """Place a target's artifact. The version that was in place before comes back if it is still on disk (§6.7).

        `failed`: a version that must not come back: raises ArtifactUnchanged if it is present. Raises ArtifactError.
        """

    async def fetch_folder(self, folder: str, bucket: str, key: str, form: DataForm = "archive") -> Placed:
        """Place what is no target, at `folder` below the container's: a copy of its own. Raises ArtifactError."""

    async def discard(self, model_id: str, *, failed: bool = False, forget: bool = False) -> None:
        """Take a target out. Its artifact stays on disk until the room is needed.

        `failed`: this version does not come back by itself, the next fetch asks which one is present. `forget`: its
        artifact leaves the disk at once.
        """

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
    etag: str = ""  # an earlier hostler wrote none
    form: DataForm = "archive"


_NOTE = msgspec.json.Decoder(_Note)  # made before threads decode (see s3/buckets.py)


class _InPlace(NamedTuple):
    """The artifact in place of a name, by its id in the cache. It is acquired unless it is a copy."""

    id: str
    shape: Literal["copy", "link", "shared"]


class LocalStorage:
    """Artifacts on this machine, below `folder`. `copy`: each is a copy, for a third party's container. `any_user`: it
    may be of any user of the system, and write beside its model, so all folders of copies are open.

    Set before any other call: `shown`, the folder's path as the container sees it; `cache_shown`, that of the cache;
    `scripts`: every target may run a user's code, whatever it holds.
    """

    def __init__(self, folder: Path, cache: ArtifactCache, *, copy: bool, any_user: bool = False) -> None:
        self.shown = str(folder)
        self.cache_shown = str(cache.root)
        self.scripts = False
        self.away = False  # it is here
        self._cache = cache
        self._folder = folder
        self._copy = copy
        self._any_user = any_user
        self._notes: dict[str, _Note] = {}  # by name; all that are on disk
        self._in_place: dict[str, _InPlace] = {}  # by name
        self._leaving: dict[str, asyncio.Future[None]] = {}  # model id -> the removal of its files

    @property
    def disk(self) -> Path:
        return self._cache.root

    async def known(self, held: Collection[str]) -> dict[str, Placed]:
        return await in_thread(self._known, held)

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        """Place a target, at `models/<model_id>/model` if it has a folder."""
        return await self._fetch(model_id, target, bucket, key, _target_path(model_id), failed, copy=self._copy)

    async def fetch_folder(self, folder: str, bucket: str, key: str, form: DataForm = "archive") -> Placed:
        name = folder.replace("/", ".")
        return await self._fetch(name, "", bucket, key, folder, copy=True, form=form)

    async def discard(self, model_id: str, *, failed: bool = False, forget: bool = False) -> None:
        placed = self._in_place.get(model_id)
        if placed is None:
            return
        self._release(model_id)
        folder = placed.shape == "copy" or (placed.shape == "link" and (failed or self._holds_more_than_link(model_id)))
        if failed or folder:
            self._leaving[model_id] = asyncio.ensure_future(in_thread(self._remove, model_id, failed, folder))
            try:
                await self._leaving[model_id]
            finally:
                del self._leaving[model_id]
        if forget:
            await asyncio.to_thread(self._cache.forget, placed.id)

    async def remember(self, model_id: str, memory: int) -> None:
        if placed := self._in_place.get(model_id):
            await self._cache.remember(placed.id, memory)

    async def close(self) -> None:
        """Release every artifact. The caller removes the folder."""
        for name in [*self._in_place]:
            self._release(name)

    # --- placing --------------------------------------------------------------------------------------------------

    async def _fetch(
        self, name: str, target: str, bucket: str, key: str, path: str, failed: str = "",
        *, copy: bool, form: DataForm = "archive",
    ) -> Placed:  # fmt: skip
        """Place an artifact, at `path` below the folder unless it is shown where it lies in the cache.

        1. Acquire the version that was placed there before, if it is still on disk (§6.7); else fetch the present one.
        2. If it comes back, and is no copy, it is in place already.
        3. Else write the note, then make the link or the copy, in a thread.
        """
        if leaving := self._leaving.get(name):
            await asyncio.wait([leaving])
        previous = self._notes.get(name)
        comes_back = not failed and previous and (previous.bucket, previous.key, previous.form) == (bucket, key, form)
        fetched = self._cache.acquire(previous.id) if previous and comes_back else None  # 1.
        fetched = fetched or await self._cache.fetch(bucket, key, failed, form)
        note = _Note(target, bucket, key, fetched.id, fetched.size, fetched.version.etag, form)
        shape = "copy" if copy else self._shape(fetched)
        if note != previous or shape == "copy" or (shape == "link" and not self._is_linked(path, fetched)):  # 2.
            try:
                await in_thread(self._put, name, note, fetched, path, shape)  # 3.
            except BaseException as error:
                self._cache.release(fetched.id)
                if isinstance(error, OSError | shutil.Error):
                    raise _translated(error) from None
                raise
        self._keep(name, _InPlace(fetched.id, shape))
        return self._placed(name, note, self._shown(fetched, shape, path), fetched.download, fetched.extract)

    def _placed(self, name: str, note: _Note, shown: str, download: float = 0.0, extract: float = 0.0) -> Placed:
        memory = self._cache.memory(note.id)
        return Placed(name, note.target, note.bucket, note.key, note.etag, shown, note.size, memory, download, extract)

    def _shown(self, fetched: Fetched, shape: str, path: str) -> str:
        """Return where the container finds an artifact, whose place below its folder is `path` if it has one."""
        return self._shared(fetched) if shape == "shared" else f"{self.shown}/{path}"

    def _shared(self, fetched: Fetched) -> str:
        """Return where the container finds an artifact in the cache."""
        return f"{self.cache_shown}/{fetched.path.relative_to(self._cache.root)}"

    def _shape(self, fetched: Fetched) -> Literal["link", "shared"]:
        return "shared" if fetched.data and not self.scripts else "link"

    def _keep(self, name: str, placed: _InPlace) -> None:
        """Record what is in place; release what was there before, and the artifact of a copy, which is not shared."""
        self._release(name)
        self._in_place[name] = placed
        if placed.shape == "copy":
            self._cache.release(placed.id)

    def _release(self, name: str) -> None:
        placed = self._in_place.pop(name, None)
        if placed and placed.shape != "copy":
            self._cache.release(placed.id)

    def _put(self, name: str, note: _Note, fetched: Fetched, path: str, shape: str) -> None:
        """Write the note, then the link or copy: whatever is in place has its note.

        A copy is made where no container sees it, and moved to its place when it is whole.
        """
        with self._within(_NOTES) as notes:
            draft = f"{name}.new"
            _unlink(draft, notes)
            with open(draft, "xb", opener=partial(os.open, mode=0o666, dir_fd=notes)) as file:
                file.write(msgspec.json.encode(note))
            os.replace(draft, name, src_dir_fd=notes, dst_dir_fd=notes)
        self._notes[name] = note
        if shape == "shared":
            return
        folder, _, last = path.rpartition("/")
        if shape == "link":
            with self._within(folder) as within:
                self._clear(last, within)
                os.symlink(self._shared(fetched), last, dir_fd=within)
            return
        unfinished = self._folder.with_name(f"{self._folder.name}-{hashlib.sha256(name.encode()).hexdigest()[:32]}")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            shutil.copytree(fetched.path, unfinished, copy_function=_copy_file)
            if self._any_user:
                _open_to_all(unfinished)
            with self._within(folder) as within:
                self._clear(last, within)
                if self._any_user:
                    with contextlib.suppress(PermissionError):  # the container made it
                        os.fchmod(within, 0o777)
                os.rename(unfinished, last, dst_dir_fd=within)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _remove(self, model_id: str, note: bool, folder: bool) -> None:
        if note:
            self._notes.pop(model_id, None)
            with self._within(_NOTES) as notes:
                _unlink(model_id, notes)
        if folder:
            with self._within(contract.MODELS_DIR) as models:
                self._clear(model_id, models)

    def _clear(self, name: str, within: int) -> None:
        """Remove a folder or link. What another user has left in it is put aside, and removed with the room."""
        folders.remove(Path(f"/proc/{os.getpid()}/fd/{within}", name))
        with contextlib.suppress(OSError):  # it was no link
            os.unlink(name, dir_fd=within)
        if self._any_user and os.access(name, os.F_OK, dir_fd=within, follow_symlinks=False):
            with contextlib.suppress(OSError, StorageUnavailable), self._within(_ASIDE) as aside:
                os.rename(name, secrets.token_hex(8), src_dir_fd=within, dst_dir_fd=aside)

    @contextlib.contextmanager
    def _within(self, path: str) -> Iterator[int]:
        """Open a folder below ours, made if it is not there.

        No link is followed, and none that comes later leads elsewhere: whatever a container puts there, we write only
        below our folder. Raises StorageUnavailable for a link, or what else is no folder.
        """
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_open_folder(self._folder))
            for name in filter(None, path.split("/")):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
                try:
                    folder = stack.enter_context(_open_folder(name, folder))
                except NotADirectoryError:
                    raise StorageUnavailable("The container has put a link in the place of a folder of ours.") from None
            yield folder

    # The next two make a few system calls of microseconds each, and so run on the event loop: a thread would cost ten
    # times as much.

    def _is_linked(self, path: str, fetched: Fetched) -> bool:
        try:
            return os.readlink(self._folder / path) == self._shared(fetched)
        except OSError:
            return False

    def _holds_more_than_link(self, model_id: str) -> bool:
        """Return whether a script has put anything beside its target's link."""
        models = self._folder / contract.MODELS_DIR
        with contextlib.suppress(OSError), _open_folder(models) as within, _open_folder(model_id, within) as folder:
            return os.listdir(folder) != [contract.MODEL_DIR]
        return False

    # --- after a restart ------------------------------------------------------------------------------------------

    def _known(self, held: Collection[str]) -> dict[str, Placed]:
        self._notes = self._read_notes()
        return self._known_copies() if self._copy else self._known_shared(held)

    def _known_copies(self) -> dict[str, Placed]:
        """Return the targets whose copy is there; remove any other folder of a model."""
        try:
            with self._within(contract.MODELS_DIR) as models:
                model_ids = os.listdir(models)
        except (OSError, StorageUnavailable):
            return {}
        placed: dict[str, Placed] = {}
        for model_id in model_ids:
            path, note = _target_path(model_id), self._notes.get(model_id)
            if note is None or (self._folder / path).is_symlink() or not (self._folder / path).is_dir():
                self._remove(model_id, note=False, folder=True)
                continue
            self._in_place[model_id] = _InPlace(note.id, "copy")
            placed[model_id] = self._placed(model_id, note, f"{self.shown}/{path}")
        return placed

    def _known_shared(self, held: Collection[str]) -> dict[str, Placed]:
        """Acquire again the artifacts of the targets that the container holds, and return these targets."""
        placed: dict[str, Placed] = {}
        for model_id in held:
            note = self._notes.get(model_id)
            fetched = self._cache.acquire(note.id) if note else None
            if note and fetched:
                shape = self._shape(fetched)
                self._keep(model_id, _InPlace(note.id, shape))
                placed[model_id] = self._placed(model_id, note, self._shown(fetched, shape, _target_path(model_id)))
        return placed

    def _read_notes(self) -> dict[str, _Note]:
        """Read all notes that can be read, whatever a container has put beside them."""
        read: dict[str, _Note] = {}
        with contextlib.suppress(OSError), _open_folder(self._folder / _NOTES) as notes:
            for name in os.listdir(notes):
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    note = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=notes)
                    with open(note, "rb") as file:  # not blocked by a pipe
                        read[name] = _NOTE.decode(file.read(_LONGEST))
        return read


def _target_path(model_id: str) -> str:
    return f"{contract.MODELS_DIR}/{model_id}/{contract.MODEL_DIR}"


@contextlib.contextmanager
def _open_folder(folder: Path | str, within: int | None = None) -> Iterator[int]:
    """Open a folder, so that a container cannot put anything else in its place. Raises OSError, also for a link."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unlink(name: str, within: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)


def _open_to_all(folder: Path) -> None:
    """Let every user write into a folder and those below it, and read the files: hostler's umask has closed both."""
    for path, _, names in os.walk(folder):
        os.chmod(path, 0o777)
        for file in (os.path.join(path, name) for name in names):
            mode = stat.S_IMODE(os.stat(file).st_mode)
            os.chmod(file, mode | (0o555 if mode & stat.S_IXUSR else 0o444))


def _copy_file(source: str, destination: str) -> None:
    """Copy a file, with its mode and times; holes stay holes."""
    status = os.stat(source)
    if status.st_blocks * 512 >= status.st_size:
        shutil.copy2(source, destination)
        return
    with open(source, "rb") as read, open(destination, "xb") as written:
        while piece := read.read(_PIECE):
            if piece.strip(b"\0"):
                written.write(piece)
            else:
                written.seek(len(piece), os.SEEK_CUR)
        written.truncate()
    shutil.copystat(source, destination)


def _translated(error: OSError) -> Exception:
    """Return a copy's error as one of ours, without paths. copytree hides the error numbers in a list of texts."""
    text = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or f"[Errno {errno.ENOSPC}]" in text:
        return DiskFull("There is no room on the disk for the container's own copy of the artifact.")
    return StorageUnavailable("The container's folder cannot be written.")
