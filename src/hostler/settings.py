"""The table of settings: name, type, default, help. Precedence: flags > HOSTLER_* > hostler.toml > default.

`hostler.toml` is read from the current folder or from the path in HOSTLER_CONFIG. Besides the settings below it may
hold tables. `[images]`: image URI -> command (a string or a list of strings), or {command, tmpfs}. `[registries]`:
pattern of the names of images (`*` stands for any text) -> the registry and path that take the matched text's place.
`[kubernetes]` and `[instances]`: setting_tables.py.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from hostler import setting_tables as tables
from hostler import setting_values as parse
from hostler.errors import UserError
from hostler.setting_tables import InstanceType, Kubernetes
from hostler.setting_values import Parse

T = TypeVar("T")

_ACCESS_KEY = re.compile(r"[\w.+=@-]{1,128}", re.ASCII).fullmatch

_DATA = Path("~/.hostler")
_NEVER_COVERED = ("/dev/", "/proc/", "/sys/", "/opt/ml/")  # by a tmpfs of a command


def _setting(parser: Parse[T], default: T, text: str, *, advanced: bool = False) -> T:
    return field(default=default, metadata={"parser": parser, "help": text, "advanced": advanced})


class Description(NamedTuple):
    """One setting, for the documents and for the CLI's help."""

    name: str
    default: object
    help: str
    advanced: bool  # few users need to change it; README lists these apart


@dataclass(frozen=True)
class Settings:
    """All settings, resolved. Times are seconds, sizes bytes. Empty text means "not set"."""

    host: str = _setting(parse.text, "127.0.0.1", "address to listen on")
    port: int = _setting(parse.count(0, 65_535), 4566, "port to listen on; 0 picks a free one")
    data: Path = _setting(parse.folder, _DATA, "folder for state, objects, logs and the artifact cache")  # noqa: RUF009
    gateways: int = _setting(parse.count(1, 256), 1, "number of gateway processes")
    allow_remote_access_without_authentication: bool = _setting(
        parse.flag, False, "allow a --host that other machines can reach, although clients are not authenticated"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        parse.names, (), "names that a request's Host header may have besides loopback addresses and *.localhost"
    )
    signatures: str = _setting(
        parse.one_of("off", "verify"),
        "off",
        "verify: refuse every request that is not signed with a key of keys_file; off: accept all requests",
    )
    keys_file: str = _setting(
        parse.folder_or_none,
        "",
        'file with lines such as ACCESSKEY = "its secret key"; no other user may have access to it',
    )
    region: str = _setting(parse.text, "us-east-1", "region of requests that are not signed")
    offline: bool = _setting(
        parse.flag,
        False,
        "the proxy of `hostler env --aws-hosts` refuses hosts that are not AWS's, instead of tunnelling",
    )
    aws_hosts_port: int | None = _setting(
        parse.port_or_none,
        None,
        "port of the proxy of `hostler env --aws-hosts`, on 127.0.0.1; empty: the port after `port`; 0: a free one",
        advanced=True,
    )
    hold: float = _setting(
        parse.seconds(0),
        5.0,
        "longest time that creating, updating or deleting an endpoint waits for the outcome",
        advanced=True,
    )
    startup_timeout: float = _setting(
        parse.seconds(0.1), 240.0, "time limit for a container to answer its first ping", advanced=True
    )
    invoke_timeout: float = _setting(parse.seconds(0.1), 60.0, "time limit for an invocation, loading included")
    replace_after_timeouts: int = _setting(
        parse.count(0),
        3,
        "calls in a row that time out in a container of [images] before its instance is replaced; 0: never",
        advanced=True,
    )
    drain_timeout: float = _setting(
        parse.seconds(0), 30.0, "time limit for requests in flight when hostler stops", advanced=True
    )
    access_log: int | Literal["stdout"] = _setting(
        parse.size_or_stdout,
        128 * 2**20,
        "disk space for each gateway's access log in logs/access, a line for each invocation; 0: no access log;"
        " stdout: on the gateway's standard output",
        advanced=True,
    )
    metrics_budget: int = _setting(
        parse.size_from(2**20),
        256 * 2**20,
        "disk space for the metrics that CloudWatch's operations read; beyond it the oldest go",
        advanced=True,
    )
    instance_memory: int = _setting(
        parse.memory, 0, "memory of every instance, e.g. 256MiB; 0: that of its instance type"
    )
    memory_fraction: float = _setting(
        parse.number(float, 0.01, 1, "a number"),
        0.6,
        "share of the machine's memory that all instances together may use",
        advanced=True,
    )
    eviction: str = _setting(
        parse.one_of("frequency", "lru"),
        "frequency",
        "targets to unload when memory is full: the least frequently used (while that serves better), or the least"
        " recently used",
        advanced=True,
    )
    idle_ttl: float = _setting(
        parse.seconds(0), 0.0, "time without a call after which a target is unloaded; 0: never. Tags may override it"
    )
    disk_budget: int = _setting(parse.size_from(1), 20 * 2**30, "disk space for extracted artifacts", advanced=True)
    archive_max_bytes: int = _setting(
        parse.size_from(1), 10 * 2**30, "maximum size of an archive once extracted", advanced=True
    )
    archive_max_files: int = _setting(parse.count(1), 100_000, "maximum number of members of an archive", advanced=True)
    archive_max_ratio: float = _setting(
        parse.number(float, 1, parse.MAX, "a number"),
        200.0,
        "maximum ratio of an archive's extracted size to its packed size",
        advanced=True,
    )
    s3_endpoint: str = _setting(
        parse.s3_url, "", "URL of the S3 that artifacts come from, or `aws`; empty: the embedded S3"
    )
    file_root: str = _setting(
        parse.folder_or_none, "", "folder below which a ModelDataUrl may be file://; empty: no ModelDataUrl may"
    )
    engine: str = _setting(
        parse.one_of("auto", "process", "docker", "kubernetes"),
        "auto",
        "auto: hostler's own servers and commands run as processes, images in Docker; process: no images;"
        " docker: all in Docker; kubernetes: all in pods, with `hostler control`",
    )
    docker_host: str = _setting(
        parse.docker_address,
        "",
        "address of Docker, unix:// or tcp://; empty: DOCKER_HOST, else its usual socket",
        advanced=True,
    )
    server_image: str = _setting(
        parse.text_or_none,
        "",
        "image of hostler's own servers, for engine = docker or kubernetes; empty: hostler-server with hostler's"
        " version as tag",
        advanced=True,
    )
    limits: bool = _setting(
        parse.flag, False, "limit the containers of images to the processors and the memory of their instance type"
    )
    strict_labels: bool = _setting(
        parse.flag,
        False,
        "refuse images without the labels that SageMaker needs of them, instead of a warning",
        advanced=True,
    )
    strict_images: bool = _setting(
        parse.flag, False, "refuse images that are neither known to hostler nor listed in [images]", advanced=True
    )
    lenient_bodies: bool = _setting(
        parse.flag,
        False,
        "accept JSON, JSON Lines and NPY for XGBoost models, whose image refuses them",
        advanced=True,
    )
    canned_answers: str = _setting(
        parse.folder_or_none,
        "",
        "file of the answers that all endpoints give, without any model: for tests of clients",
        advanced=True,
    )
    reset: bool = _setting(
        parse.flag,
        False,
        "let POST /_hostler/reset delete all models, endpoints, buckets and objects: for test suites",
        advanced=True,
    )
    faults: bool = _setting(
        parse.flag, False, "let PUT /_hostler/faults set faults on purpose: for tests of clients", advanced=True
    )
    control_address: str = _setting(
        parse.link_address,
        "",
        "where `hostler gateway` and `hostler agent` link with control, such as tls:hostler-control.hostler.svc:7700",
        advanced=True,
    )
    link_listen: str = _setting(
        parse.link_address,
        "",
        "where control takes links from other machines, such as tls:0.0.0.0:7700; empty: from this machine alone",
        advanced=True,
    )
    api_listen: str = _setting(
        parse.link_address,
        "",
        "where control takes the requests that gateways of other machines pass on, such as tls:0.0.0.0:7701",
        advanced=True,
    )
    metrics_listen: str = _setting(
        parse.link_address,
        "",
        "where control also answers GET /metrics, to anybody and without a signature, such as tcp:0.0.0.0:7702",
        advanced=True,
    )
    link_certificates: str = _setting(
        parse.folder_or_none,
        "",
        "folder with ca.crt, and with tls.crt and tls.key of control, for addresses that begin with tls:",
        advanced=True,
    )
    link_token: str = _setting(
        parse.folder_or_none, "", "file with the token that a gateway or an agent shows control", advanced=True
    )
    link_tokens: str = _setting(
        parse.folder_or_none,
        "",
        'file with the tokens that control admits: lines gateway = "its token", agent = "its token"',
        advanced=True,
    )
    artifacts_via: str = _setting(
        parse.one_of("auto", "s3", "control"),
        "auto",
        "where agents take artifacts from: s3, control, or (auto) control for instances without a network, else s3;"
        " without s3_endpoint always control",
        advanced=True,
    )
    bubblewrap: str = _setting(
        parse.one_of("auto", "on", "off"),
        "auto",
        "isolate the commands of [images] with bubblewrap: auto, on or off",
        advanced=True,
    )
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tmpfs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # image -> folders that its command may write to
    registries: Mapping[str, str] = field(default_factory=dict)  # pattern of images' names -> what takes its place
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    instances: Mapping[str, InstanceType] = field(default_factory=dict)  # pattern of instance types -> what they are

    @property
    def access_logs(self) -> Path:
        """The folder of the access logs: `<gateway>.log`, and the log before it, `<gateway>.log.1`."""
        return self.data / "logs" / "access"

    @property
    def s3_url(self) -> str:
        """URL of the S3 that artifacts come from; empty: the embedded S3."""
        suffix = ".cn" if self.region.startswith("cn-") else ""
        return f"https://s3.{self.region}.amazonaws.com{suffix}" if self.s3_endpoint == "aws" else self.s3_endpoint

    @staticmethod
    def described() -> list[Description]:
        """Return the description of every setting, in order."""
        return [
            Description(f.name, f.default, f.metadata["help"], f.metadata["advanced"])
            for f in fields(Settings)
            if f.metadata
        ]


def load(flags: Mapping[str, object], environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Resolve the settings. `flags`: values from the command line; None: not given.

    Raises UserError for an unknown name, a value that does not parse, or a hostler.toml that is not TOML.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get("HOSTLER_CONFIG") or (folder or Path.cwd()) / "hostler.toml")
    if environ.get("HOSTLER_CONFIG") and not path.is_file():
        raise UserError(f"HOSTLER_CONFIG names {path}, which does not exist")
    table = _read_toml(path)
    images, tmpfs = _images(table.pop("images", {}), path)
    registries = _registries(table.pop("registries", {}), path)
    kubernetes = _table(tables.kubernetes, table, "kubernetes", path)
    instances = _table(tables.instances, table, "instances", path)
    parsers = {f.name: f.metadata["parser"] for f in fields(Settings) if f.metadata}
    for name in table:
        if name not in parsers:
            raise UserError(f"{path}: there is no setting named {name}")
    values: dict[str, Any] = {}
    for name, parser in parsers.items():
        sources = (
            (flags.get(name), f"--{name.replace('_', '-')}"),
            (environ.get(variable(name)), variable(name)),
            (table.get(name), f"{path}: {name}"),
        )
        for value, source in sources:
            if value is None:
                continue
            try:
                values[name] = parser(value)
            except ValueError as error:
                raise UserError(f"{source}: {error}") from None
            break
    try:
        values.setdefault("data", parse.folder(_DATA))
    except ValueError as error:
        raise UserError(f"data: {error}; choose a folder with --data") from None
    return Settings(
        **values, images=images, tmpfs=tmpfs, registries=registries, kubernetes=kubernetes, instances=instances
    )


def variable(name: str) -> str:
    """Return the name of a setting's environment variable."""
    return f"HOSTLER_{name.upper()}"


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each HOSTLER_* variable that belongs to no setting, with the variable of a similar name, or empty text."""
    from difflib import get_close_matches  # imported here, because gateways load settings and do not need it

    settings = [setting.name.upper() for setting in Settings.described()]
    names = [name.removeprefix("HOSTLER_") for name in sorted(environ) if name.startswith("HOSTLER_")]
    unknown = [
        name
        for name in names
        if name not in (*settings, "CONFIG", "UNSET", "INSTANCE", "POD", "POD_UID") and not name.startswith("TEST_")
    ]
    similar = [next(iter(get_close_matches(name, settings, 1)), "") for name in unknown]
    return [(variable(name), match and variable(match)) for name, match in zip(unknown, similar, strict=True)]


def _as_dict(settings: Settings) -> dict[str, object]:
    return {f.name: getattr(settings, f.name) for f in fields(settings)}


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _images(table: object, path: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return the commands of the images, and the folders of those that have a table of their own."""
    if not isinstance(table, dict):
        raise UserError(f"{path}: [images] must be a table of image = command")
    images: dict[str, tuple[str, ...]] = {}
    tmpfs: dict[str, tuple[str, ...]] = {}
    for image, command in table.items():
        if isinstance(command, dict):
            tmpfs[image] = _folders(command.get("tmpfs", []), f"{path}: [images] {image!r}")
            if command.keys() - {"command", "tmpfs"}:
                raise UserError(f"{path}: [images] {image!r}: it may have a command and tmpfs, and nothing else")
            command = command.get("command")
        try:
            words = shlex.split(command) if isinstance(command, str) else command
        except ValueError:
            raise UserError(f"{path}: [images] {image!r}: a quotation mark in the command is not closed") from None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path}: [images] {image!r}: the command must be a string or a list of strings")
        images[image] = tuple(words)
    return images, tmpfs


def _registries(table: object, path: Path) -> dict[str, str]:
    """Return the rewrites of the names of images, in the file's order."""
    if not isinstance(table, dict):
        raise UserError(f"{path}: [registries] must be a table of pattern = registry and path")
    for pattern, replacement in table.items():
        try:
            parse.text(pattern)
            parse.text(replacement)
        except ValueError as error:
            raise UserError(f"{path}: [registries] {pattern!r}: {error}") from None
    return dict(table)


def _table(read: Callable[[object], T], table: dict[str, object], name: str, path: Path) -> T:
    try:
        return read(table.pop(name, {}))
    except ValueError as error:
        raise UserError(f"{path}: [{name}]: {error}") from None


def _folders(value: object, where: str) -> tuple[str, ...]:
    """Return folders that can be covered by empty ones. Raises UserError."""
    folders = [os.path.normpath(each) for each in value if isinstance(each, str)] if isinstance(value, list) else None
    if folders is None or not isinstance(value, list) or len(folders) < len(value):
        raise UserError(f"{where}: tmpfs must be a list of folders")
    for folder in folders:
        if not folder.startswith("/") or folder.count("/") < 2 or "\0" in folder or folder.startswith(_NEVER_COVERED):
            raise UserError(f"{where}: tmpfs names {folder!r}, which is no absolute path two levels below the root")
    return tuple(folders)


def access_keys(settings: Settings) -> dict[str, str]:
    """Read `keys_file` (TOML): access key -> secret key, for the signatures of requests.

    They are not part of Settings, so that no code that prints or passes on settings reveals them. Raises UserError,
    whose text quotes nothing of the file.
    """
    path = settings.keys_file
    if not path:
        raise UserError('signatures = "verify" needs keys_file, a file with lines such as ACCESSKEY = "its secret key"')
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(2**20)
    except OSError as error:
        raise UserError(f"keys_file {path} cannot be read: {error.strerror}") from None
    if is_open_to_others(status, os.geteuid()):
        mode = f"{status.st_mode & 0o777:o}"
        raise UserError(f"keys_file {path} is open to other users (its mode is {mode}): chmod 600 {path}")
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"line \d+", str(error))
        raise UserError(f"keys_file {path} is not TOML{f', at {line[0]}' if line else ''}") from None
    for number, (access_key, secret) in enumerate(table.items(), 1):
        if not _ACCESS_KEY(access_key) or not isinstance(secret, str) or not secret.strip():
            raise UserError(f'keys_file {path}: entry {number} is not of the form ACCESSKEY = "its secret key"')
    if not table:
        raise UserError(f"keys_file {path} holds no key")
    return table


def is_open_to_others(status: os.stat_result, user: int) -> bool:
    """Return whether others than `user` may open a file of secrets.

    A Secret that Kubernetes mounts is root's, and the group of its pod may read it: that is as private as can be there.
    """
    of_a_pod = status.st_uid == 0 != user
    return bool(status.st_mode & (0o037 if of_a_pod else 0o077))


def dump(settings: Settings) -> dict[str, object]:
    """Return the settings as JSON values, for a child process."""
    return {
        **_as_dict(settings),
        "data": str(settings.data),
        "images": {k: list(v) for k, v in settings.images.items()},
        "tmpfs": {k: list(v) for k, v in settings.tmpfs.items()},
        "registries": dict(settings.registries),
        **tables.dumped(settings.kubernetes, settings.instances),
    }


def restore(table: Mapping[str, Any]) -> Settings:
    """Return the settings from the JSON values of `dump`."""
    images = {k: tuple(v) for k, v in table["images"].items()}
    tmpfs = {k: tuple(v) for k, v in table.get("tmpfs", {}).items()}
    known = {"data": Path(table["data"]), "allowed_hosts": tuple(table["allowed_hosts"]), **tables.restored(table)}
    return Settings(**{"registries": {}, **table, **known, "images": images, "tmpfs": tmpfs})
