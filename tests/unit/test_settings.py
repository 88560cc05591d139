"""Settings: where a value comes from, and how a wrong one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hostler import settings
from hostler.errors import UserError


def load(folder: Path, flags: dict[str, Any] | None = None, **environ: str) -> settings.Settings:
    return settings.load(flags or {}, environ, folder)


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path):
    assert load(tmp_path).port == 4566
    (tmp_path / "hostler.toml").write_text("port = 1\n")
    assert load(tmp_path).port == 1
    assert load(tmp_path, HOSTLER_PORT="2").port == 2
    assert load(tmp_path, {"port": 3}, HOSTLER_PORT="2").port == 3


def test_a_flag_that_was_not_given_decides_nothing(tmp_path: Path):
    assert load(tmp_path, {"port": None}, HOSTLER_PORT="2").port == 2


def test_another_file_is_read_when_the_environment_names_it(tmp_path: Path):
    other = tmp_path / "other.toml"
    other.write_text("port = 9\n")
    assert load(tmp_path, HOSTLER_CONFIG=str(other)).port == 9


@pytest.mark.parametrize(
    ("text", "count"),
    [("256MiB", 256 * 2**20), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("1000", 1000), ("7b", 7), ("0", 0)],
)
def test_sizes_have_units(tmp_path: Path, text: str, count: int):
    assert load(tmp_path, HOSTLER_INSTANCE_MEMORY=text).instance_memory == count


def test_flags_and_names_are_read_from_text_and_from_toml(tmp_path: Path):
    assert load(tmp_path, HOSTLER_STRICT_IMAGES="yes", HOSTLER_ALLOWED_HOSTS="a.example, b.example").allowed_hosts == (
        "a.example",
        "b.example",
    )
    (tmp_path / "hostler.toml").write_text('strict_images = true\nallowed_hosts = ["c.example"]\n')
    assert load(tmp_path).strict_images
    assert load(tmp_path).allowed_hosts == ("c.example",)


def test_images_are_commands_as_text_or_as_words(tmp_path: Path):
    (tmp_path / "hostler.toml").write_text('[images]\n"a:1" = "python \'my server.py\'"\n"b:1" = ["b", "--x"]\n')
    assert load(tmp_path).images == {"a:1": ("python", "my server.py"), "b:1": ("b", "--x")}


def test_the_data_folder_is_absolute_and_home_is_expanded(tmp_path: Path):
    assert load(tmp_path).data == Path.home() / ".hostler"
    assert load(tmp_path, {"data": "here"}).data.is_absolute()


@pytest.mark.parametrize(
    ("toml", "environ", "told"),
    [
        ("prot = 1", {}, "there is no setting named prot"),
        ("port = ", {}, "cannot be read"),
        ("[images]\nx = 3", {}, "[images] 'x'"),
        ("[images]\nx = ''", {}, "[images] 'x'"),
        ("images = 3", {}, "[images] must be a table"),
        ("", {"HOSTLER_PORT": "http"}, "HOSTLER_PORT: port"),
        ("", {"HOSTLER_INSTANCE_MEMORY": "lots"}, "'lots' is not a size such as 256MiB"),
        ("", {"HOSTLER_STRICT_IMAGES": "perhaps"}, "'perhaps' is not true or false"),
        ("", {"HOSTLER_CONFIG": "/nonexistent/x.toml"}, "/nonexistent/x.toml, which is not there"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(tmp_path: Path, toml: str, environ: dict[str, str], told: str):
    (tmp_path / "hostler.toml").write_text(toml)
    with pytest.raises(UserError) as caught:
        load(tmp_path, **environ)
    assert told in str(caught.value)
    if toml.startswith(("prot", "images", "[images]")):
        assert str(tmp_path / "hostler.toml") in str(caught.value)


def test_settings_survive_being_handed_to_a_child_as_json(tmp_path: Path):
    (tmp_path / "hostler.toml").write_text('allowed_hosts = ["a"]\n[images]\n"a:1" = "run a"\n')
    resolved = load(tmp_path, {"port": 0})
    assert settings.restore(json.loads(json.dumps(settings.dump(resolved)))) == resolved


def test_every_setting_is_described():
    for name, _, text in settings.Settings.described():
        assert text, name
        assert not text.endswith("."), name
