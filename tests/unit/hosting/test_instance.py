"""What a FailureReason may carry of a container's log."""

from pathlib import Path

import pytest

from hostler.hosting.container import presentable

FOLDER = Path("/home/me/.hostler/containers/1.1.0.0.0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("one\ntwo\n", "one\ntwo"),
        (f"no model in {FOLDER}/model/x.json", "no model in /opt/ml/model/x.json"),
        ('File "/home/me/venv/lib/python3.11/site-packages/a/b.py", line 3', 'File "b.py", line 3'),
        ("see https://host/a/b and 1/2 and a/b/c", "see https://host/a/b and 1/2 and a/b/c"),
    ],
)
def test_a_log_tells_nothing_of_this_machines_folders(text: str, shown: str) -> None:
    assert presentable(text, FOLDER) == shown
