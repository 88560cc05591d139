"""What a log says of writes that a mapped command's sandbox refused: to the machine's files, which it sees read-only.

Pure: text in, folders out. The lines are those of C, Python, Java, Go and coreutils, and of programs such as nginx:
`mkdir() "/var/lib/nginx/body" failed (30: Read-only file system)`.
"""

from __future__ import annotations

import os
import re

_REFUSED = re.compile(r"read-only file ?system", re.IGNORECASE)  # strerror(EROFS); Go writes it small
_QUOTED = re.compile(r"""["'`‘“](/[^"'`’”]+)["'`’”]""")
_PATH = re.compile(r"(?<![\w.~-])/[\w.+@%~/-]*\w")
_NO_OWNER = re.compile(
    r"(?:\bchown\b|changing ownership|set(?:e?[ug]id|groups)|initgroups).*Operation not permitted", re.IGNORECASE
)
_MOST = 4  # folders that are named


def folders(log: str) -> tuple[str, ...]:
    """Return the folders of the files that a program could not write, in the log's order, without repetition.

    A file right below a folder of the machine's root, such as /var/x, is returned itself: no program gets all of /var.
    """
    found: dict[str, None] = {}
    for line in log.splitlines():
        if (refused := _REFUSED.search(line)) and (path := _path(line, refused.start())):
            folder = os.path.dirname(path)
            found[folder if folder.count("/") > 1 else path] = None
    inside = {path for path in found if any(path.startswith(f"{other}/") for other in found)}
    return tuple(path for path in found if path not in inside)[:_MOST]


def owner(log: str) -> bool:
    """Whether a program could not change a file's owner or its own user."""
    return _NO_OWNER.search(log) is not None


def _path(line: str, refusal: int) -> str:
    """Return the path that a line is about: the last one in quotation marks, else the last one before the refusal.

    A line of a shell begins with the script's own path.
    """
    paths = _QUOTED.findall(line) or _PATH.findall(line[:refusal]) or _PATH.findall(line)
    return os.path.normpath(paths[-1]) if paths else ""
