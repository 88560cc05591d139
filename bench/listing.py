"""The time to list dropped files: `python bench/listing.py [--files 10000] [--size 1000] [--folders 1]`.

Plain files are put into a bucket's folder of a hostler that runs, and are listed by ListObjectsV2, in pages of 1,000:
the first time, when each file is read for its ETag, three times more, and once by a hostler that was started anew.
Prints the seconds of each, by raw HTTP, and those in which control had a processor; before them, those of reading all
files.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from running import BUCKET, Hostler, hostler_up

import arguments


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--files", type=arguments.positive, default=10_000, help="files that are dropped")
    parser.add_argument("--size", type=arguments.positive, default=1000, help="bytes of each file")
    parser.add_argument("--folders", type=arguments.positive, default=1, help="folders in which they lie")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, hostler_up(Path(folder) / "up") as hostler:
        bucket = hostler.data / "s3" / BUCKET
        paths = [bucket / f"folder-{number % options.folders}" / f"{number}.tar.gz" for number in range(options.files)]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(options.size))
        time.sleep(1)
        print(f"reading all files  {_reading(paths):6.2f} s")
        for name in ("first", "second", "third", "fourth"):
            print(f"{name:18} {_listing(hostler, options.files)}")
        hostler.stop()
        hostler.start()
        print(f"{'started anew':18} {_listing(hostler, options.files)}")


def _reading(paths: list[Path]) -> float:
    begun = time.perf_counter()
    for path in paths:
        hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return time.perf_counter() - begun


def _listing(hostler: Hostler, files: int) -> str:
    """List a bucket to its end; return the seconds that it took."""
    host, _, port = hostler.url.removeprefix("http://").partition(":")
    connection, found, token = HTTPConnection(host, int(port)), 0, ""
    used, begun = sum(hostler.control.cpu_times()[:2]), time.perf_counter()
    while True:
        connection.request("GET", f"/{BUCKET}?list-type=2" + (f"&continuation-token={token}" if token else ""))
        page = connection.getresponse().read().decode()
        found += page.count("<Contents>")
        next = re.search("<NextContinuationToken>(.*?)<", page)
        if next is None:
            break
        token = quote(html.unescape(next[1]), safe="")
    assert found == files, f"{found} of {files} are listed"
    took, used = time.perf_counter() - begun, sum(hostler.control.cpu_times()[:2]) - used
    return f"{took:6.2f} s, {used:5.2f} s of control's"


if __name__ == "__main__":
    main()
