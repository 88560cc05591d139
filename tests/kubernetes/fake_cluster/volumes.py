"""The volumes of a pod, as folders of this machine, which Docker mounts into its containers."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import docker_rig
from fake_cluster.kinds import CLAIM, CONFIG_MAP, SECRET, SERVICE_ACCOUNT
from fake_cluster.store import Object, Store
from fake_cluster.translation import Unready, expanded, field

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ACCOUNT_VOLUME = "kube-api-access"

TokenOf = Callable[[Object, str, int], str]  # (pod, audience, seconds)


class Volumes:
    """The folders of one pod. `disk`: the size of the disk that each emptyDir has for itself. Needs root."""

    def __init__(
        self, store: Store, pod: Object, folder: Path, claims: Path, authority: Path, token: TokenOf, disk: str = ""
    ) -> None:
        self._store, self._pod, self.folder, self._disk = store, pod, folder, disk
        self._claims, self._authority, self._token = claims, authority, token
        self._by_name = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        self.hosts = folder / "hosts"

    def make(self) -> None:
        """Make all folders and files. Raises Unready if something that they need is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.hosts.touch()
        for name, volume in self._by_name.items():
            path = self.path(name)
            if "emptyDir" in volume or "persistentVolumeClaim" in volume:
                if not path.exists():
                    path.mkdir(parents=True)
                    if self._disk and "emptyDir" in volume:
                        _mount_disk(path, self._disk)
                    self._share(path)
            else:
                self._write(path, self._files(volume), volume)
        if self.has_account:
            self._write(self.path(_ACCOUNT_VOLUME), self._account(), {})

    def refresh(self) -> None:
        """Write tokens, ConfigMaps and Secrets anew, as they are now."""
        with contextlib.suppress(Unready):
            self.make()

    def path(self, name: str) -> Path:
        volume = self._by_name.get(name, {})
        if claim := volume.get("persistentVolumeClaim"):
            namespace = self._pod["metadata"]["namespace"]
            if not self._store.find(CLAIM, namespace, claim["claimName"]):
                raise Unready("ContainerCreating", f'persistentvolumeclaim "{claim["claimName"]}" not found')
            return self._claims / f"{namespace}-{claim['claimName']}"
        return self.folder / "volumes" / name

    def sources(self, container: Object) -> list[tuple[str, Object]]:
        """Return (folder or file of this machine, mount) of each of a container's mounts, made if it is missing."""
        found = []
        for each in container.get("volumeMounts") or ():
            source = self.path(each["name"])
            if below := each.get("subPath"):
                source = source / below
                if not source.exists():  # Kubernetes makes it as root's
                    source.mkdir(parents=True, mode=0o755)
            found.append((str(source), each))
        if self.has_account and not any(each["mountPath"] == ACCOUNT for _, each in found):
            found.append((str(self.path(_ACCOUNT_VOLUME)), {"mountPath": ACCOUNT, "readOnly": True}))
        return found

    @property
    def has_account(self) -> bool:
        """Whether containers get a token for the API server."""
        spec = self._pod["spec"]
        if "automountServiceAccountToken" in spec:
            return bool(spec["automountServiceAccountToken"])
        account = self._store.find(SERVICE_ACCOUNT, self._pod["metadata"]["namespace"], spec["serviceAccountName"])
        return bool((account or {}).get("automountServiceAccountToken", True))

    def used(self, name: str) -> int:
        """Return the bytes that a volume's files have on the disk."""
        total = 0
        for folder, _, files in os.walk(self.path(name)):
            for file in files:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(folder, file)).st_blocks * 512
        return total

    def remove(self) -> None:
        """Remove the pod's own folders; claims stay."""
        for name, volume in self._by_name.items():
            if "emptyDir" in volume and (path := self.path(name)).is_mount():
                subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)
        remove(self.folder)

    def _share(self, path: Path) -> None:
        """Let everybody write there, with the pod's group for new files."""
        group = (self._pod["spec"].get("securityContext") or {}).get("fsGroup")
        path.chmod(0o777)
        if group is not None:
            with contextlib.suppress(PermissionError):
                os.chown(path, -1, group)
                path.chmod(0o2777)

    def _files(self, volume: Object) -> dict[str, bytes]:
        namespace = self._pod["metadata"]["namespace"]
        sources = [volume]
        if projected := volume.get("projected"):
            sources = projected["sources"]
        files: dict[str, bytes] = {}
        for source in sources:
            if asked := source.get("configMap"):
                files |= self._chosen(asked, _texts(self._found(CONFIG_MAP, namespace, asked)))
            elif asked := source.get("secret"):
                files |= self._chosen(asked, _decoded(self._found(SECRET, namespace, asked)))
            elif asked := source.get("serviceAccountToken"):
                token = self._token(self._pod, asked.get("audience", ""), asked.get("expirationSeconds", 3600))
                files[asked["path"]] = token.encode()
            elif asked := source.get("downwardAPI"):
                for item in asked["items"]:
                    files[item["path"]] = field(self._pod, item["fieldRef"]["fieldPath"]).encode()
            else:
                raise Unready("ContainerCreating", f"a volume of this kind is not supported: {source}")
        return files

    def _found(self, kind: object, namespace: str, asked: Object) -> Object | None:
        name = asked.get("name") or asked["secretName"]
        found = self._store.find(kind, namespace, name)  # type: ignore[arg-type]
        if found is None and not asked.get("optional"):
            what = kind.name.lower()  # type: ignore[attr-defined]
            raise Unready("ContainerCreating", f'MountVolume.SetUp failed: {what} "{name}" not found')
        return found

    def _chosen(self, asked: Object, files: Mapping[str, bytes]) -> dict[str, bytes]:
        if "items" not in asked:
            return dict(files)
        chosen = {}
        for item in asked["items"]:
            if item["key"] not in files:
                if asked.get("optional"):
                    continue
                raise Unready("ContainerCreating", f"references non-existent config key: {item['key']}")
            chosen[item["path"]] = files[item["key"]]
        return chosen

    def _account(self) -> dict[str, bytes]:
        namespace = self._pod["metadata"]["namespace"]
        authority = self._authority.read_bytes() if self._authority.exists() else b""
        return {
            "token": self._token(self._pod, "", 3607).encode(),
            "namespace": namespace.encode(),
            "ca.crt": authority,
        }

    def _write(self, path: Path, files: Mapping[str, bytes], volume: Object) -> None:
        """Put files there, each at once as a whole; nobody reads half of one."""
        path.mkdir(parents=True, exist_ok=True)
        content = next((value for key, value in volume.items() if key != "name"), {}) or {}
        mode = content.get("defaultMode", 0o644)
        if (self._pod["spec"].get("securityContext") or {}).get("fsGroup") is not None:
            mode |= 0o440
        for name, data in files.items():
            file = path / name
            if file.exists() and file.read_bytes() == data:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f".{file.name}.new")
            partial.write_bytes(data)
            self._own(partial, mode)
            partial.rename(file)

    def _own(self, file: Path, mode: int) -> None:
        """Give a file its mode, and to the pod's group; if this process may not do that, to everybody."""
        context = self._pod["spec"].get("securityContext") or {}
        group, user = context.get("fsGroup"), context.get("runAsUser")
        file.chmod(mode)
        if group is None and user is None:
            return
        try:
            os.chown(file, -1, group if group is not None else 0)
        except PermissionError:
            file.chmod(mode | 0o444)


def _mount_disk(path: Path, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True, capture_output=True)


def remove(folder: Path) -> None:
    """Remove a folder, also with files of users in containers, by a container if need be."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        words = ["--rm", "--network", "none", "--volume", f"{folder.parent}:/x", docker_rig.base()]
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            docker_rig.docker("run", *words, "rm", "-rf", f"/x/{folder.name}")


def _texts(found: Object | None) -> dict[str, bytes]:
    found = found or {}
    texts = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return texts | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def _decoded(found: Object | None) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in ((found or {}).get("data") or {}).items()}


def variables(store: Store, pod: Object, container: Object) -> dict[str, str]:
    """Return the variables that a container's `env` and `envFrom` give it. Raises Unready."""
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        for key, kind, read in (("configMapRef", CONFIG_MAP, _texts), ("secretRef", SECRET, _decoded)):
            if asked := source.get(key):
                document = store.find(kind, namespace, asked["name"])
                if document is None and not asked.get("optional"):
                    raise Unready("CreateContainerConfigError", f'{kind.name.lower()} "{asked["name"]}" not found')
                found |= {prefix + name: value.decode() for name, value in read(document).items()}
    for each in container.get("env") or ():
        source = each.get("valueFrom")
        if source is None:
            found[each["name"]] = expanded(each.get("value", ""), found)
        elif asked := source.get("fieldRef"):
            found[each["name"]] = field(pod, asked["fieldPath"])
        elif asked := source.get("resourceFieldRef"):
            limits = (container.get("resources") or {}).get(asked["resource"].partition(".")[0]) or {}
            found[each["name"]] = str(limits.get(asked["resource"].partition(".")[2], ""))
        else:
            key, kind, read = (
                ("configMapKeyRef", CONFIG_MAP, _texts) if "configMapKeyRef" in source
                else ("secretKeyRef", SECRET, _decoded)
            )  # fmt: skip
            asked = source[key]
            values = read(store.find(kind, namespace, asked["name"]))
            if asked["key"] in values:
                found[each["name"]] = values[asked["key"]].decode()
            elif not asked.get("optional"):
                message = f"couldn't find key {asked['key']} in {kind.name} {namespace}/{asked['name']}"
                raise Unready("CreateContainerConfigError", message)
    return found
