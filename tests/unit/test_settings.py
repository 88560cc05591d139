"""Settings: the source of a value, and the error for a wrong one."""

from __future__ import annotations

import json
import os
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


def test_a_flag_that_was_not_given_overrides_nothing(tmp_path: Path):
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
    assert load(tmp_path, HOSTLER_ACCESS_LOG=text).access_log == count


def test_the_access_log_may_go_to_standard_output(tmp_path: Path):
    assert load(tmp_path, HOSTLER_ACCESS_LOG="stdout").access_log == "stdout"
    with pytest.raises(UserError, match="is not a size"):
        load(tmp_path, HOSTLER_ACCESS_LOG="stderr")


@pytest.mark.parametrize("address", ["tls:control:7700", "tcp:[::1]:7700", "tls:fd00::1:7700", ""])
def test_addresses_of_links_name_host_and_port(tmp_path: Path, address: str):
    assert load(tmp_path, HOSTLER_CONTROL_ADDRESS=address).control_address == address


@pytest.mark.parametrize("address", ["control:7700", "tls:control", "tls::7700", "tls:control:70000", "unix:/a:1"])
def test_any_other_text_is_no_address_of_a_link(tmp_path: Path, address: str):
    with pytest.raises(UserError, match="is no address such as"):
        load(tmp_path, HOSTLER_CONTROL_ADDRESS=address)


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


def test_an_image_may_have_folders_that_its_command_writes_to(tmp_path: Path):
    (tmp_path / "hostler.toml").write_text(
        '[images]\n"a:1" = {command = "serve-it", tmpfs = ["/var/lib/nginx/", "/var/log/nginx"]}\n"b:1" = "b"\n'
    )
    loaded = load(tmp_path)
    assert loaded.images == {"a:1": ("serve-it",), "b:1": ("b",)}
    assert loaded.tmpfs == {"a:1": ("/var/lib/nginx", "/var/log/nginx")}
    assert settings.restore(json.loads(json.dumps(settings.dump(loaded)))) == loaded
    of_an_earlier_host = {name: value for name, value in settings.dump(loaded).items() if name != "tmpfs"}
    assert settings.restore(of_an_earlier_host).tmpfs == {}


def test_the_root_of_files_is_absolute_or_empty(tmp_path: Path):
    assert load(tmp_path).file_root == ""
    assert load(tmp_path, HOSTLER_FILE_ROOT="").file_root == ""
    assert load(tmp_path, HOSTLER_FILE_ROOT="/srv/models/").file_root == "/srv/models"
    assert load(tmp_path, HOSTLER_FILE_ROOT="models").file_root == str(Path("models").absolute())
    resolved = load(tmp_path, HOSTLER_FILE_ROOT="~/models")
    assert resolved.file_root == str(Path("~/models").expanduser())
    assert settings.restore(json.loads(json.dumps(settings.dump(resolved)))) == resolved


def test_registries_keep_the_order_of_the_file(tmp_path: Path):
    lines = '[registries]\n"*.amazonaws.com" = "mirror.example/ecr"\n"a.example" = "b.example"\n'
    (tmp_path / "hostler.toml").write_text(lines)
    resolved = load(tmp_path)
    assert list(resolved.registries.items()) == [("*.amazonaws.com", "mirror.example/ecr"), ("a.example", "b.example")]
    assert settings.restore(json.loads(json.dumps(settings.dump(resolved)))) == resolved


def test_the_data_folder_is_absolute_and_home_is_expanded(tmp_path: Path):
    assert load(tmp_path).data == Path.home() / ".hostler"
    assert load(tmp_path, {"data": "here"}).data.is_absolute()


@pytest.mark.parametrize(
    ("toml", "environ", "message"),
    [
        ("prot = 1", {}, "there is no setting named prot"),
        ("port = ", {}, "cannot be read"),
        ("[images]\nx = 3", {}, "[images] 'x'"),
        ("[images]\nx = ''", {}, "[images] 'x'"),
        ("[images]\nx = {tmpfs = []}", {}, "[images] 'x'"),
        ("[images]\nx = {command = 'x', user = 'root'}", {}, "[images] 'x': it may have a command and tmpfs"),
        ("[images]\nx = {command = 'x', tmpfs = '/var/a'}", {}, "[images] 'x': tmpfs must be a list of folders"),
        ("[images]\nx = {command = 'x', tmpfs = [3]}", {}, "[images] 'x': tmpfs must be a list of folders"),
        ("[images]\nx = {command = 'x', tmpfs = ['/var']}", {}, "[images] 'x': tmpfs names '/var'"),
        ("[images]\nx = {command = 'x', tmpfs = ['lib/x']}", {}, "[images] 'x': tmpfs names 'lib/x'"),
        ("[images]\nx = {command = 'x', tmpfs = ['/opt/ml/model']}", {}, "[images] 'x': tmpfs names '/opt/ml/model'"),
        ("[images]\nx = {command = 'x', tmpfs = ['/a/../..']}", {}, "[images] 'x': tmpfs names '/'"),
        ("images = 3", {}, "[images] must be a table"),
        ("registries = 3", {}, "[registries] must be a table"),
        ("[registries]\nx = 3", {}, "[registries] 'x': 3 is not text"),
        ("[registries]\nx = ''", {}, "[registries] 'x': it is empty"),
        ("", {"HOSTLER_ENGINE": "podman"}, "HOSTLER_ENGINE: 'podman' is not one of auto, process, docker"),
        ("", {"HOSTLER_DOCKER_HOST": "docker.sock"}, "HOSTLER_DOCKER_HOST: 'docker.sock' is no address such as"),
        ('[images]\nx = "\'"', {}, "[images] 'x': a quotation mark"),
        ("", {"HOSTLER_PORT": "http"}, "HOSTLER_PORT: 'http' is not a whole number"),
        ("", {"HOSTLER_PORT": "70000"}, "HOSTLER_PORT: 70000 is more than 65535"),
        ("", {"HOSTLER_PORT": "-1"}, "HOSTLER_PORT: -1 is less than 0"),
        ("port = 1.5", {}, "port: 1.5 is not a whole number"),
        ("port = true", {}, "port: True is not a whole number"),
        ("", {"HOSTLER_GATEWAYS": "0"}, "HOSTLER_GATEWAYS: 0 is less than 1"),
        ("", {"HOSTLER_HOLD": "5s"}, "HOSTLER_HOLD: '5s' is not a number of seconds"),
        ("", {"HOSTLER_HOLD": "-1"}, "HOSTLER_HOLD: -1 is less than 0"),
        ("", {"HOSTLER_HOLD": "nan"}, "HOSTLER_HOLD: 'nan' is not a number of seconds"),
        ("", {"HOSTLER_HOLD": "inf"}, "HOSTLER_HOLD: inf is more than"),
        ("", {"HOSTLER_INVOKE_TIMEOUT": "0"}, "HOSTLER_INVOKE_TIMEOUT: 0 is less than 0.1"),
        ("", {"HOSTLER_DRAIN_TIMEOUT": "-0.5"}, "HOSTLER_DRAIN_TIMEOUT: -0.5 is less than 0"),
        ("", {"HOSTLER_MEMORY_FRACTION": "7"}, "HOSTLER_MEMORY_FRACTION: 7 is more than 1"),
        ("memory_fraction = 0", {}, "memory_fraction: 0 is less than 0.01"),
        ("", {"HOSTLER_DISK_BUDGET": "-1"}, "HOSTLER_DISK_BUDGET: '-1' is not a size"),
        ("", {"HOSTLER_DISK_BUDGET": "0"}, "HOSTLER_DISK_BUDGET: 0 is less than 1"),
        ("", {"HOSTLER_INSTANCE_MEMORY": "9" * 400}, "HOSTLER_INSTANCE_MEMORY: "),
        ("", {"HOSTLER_ARCHIVE_MAX_FILES": "0"}, "HOSTLER_ARCHIVE_MAX_FILES: 0 is less than 1"),
        ("", {"HOSTLER_ARCHIVE_MAX_RATIO": "0.5"}, "HOSTLER_ARCHIVE_MAX_RATIO: 0.5 is less than 1"),
        ("", {"HOSTLER_BUBBLEWRAP": "maybe"}, "HOSTLER_BUBBLEWRAP: 'maybe' is not one of auto, on, off"),
        ("", {"HOSTLER_HOST": ""}, "HOSTLER_HOST: it is empty"),
        ("host = 3", {}, "host: 3 is not text"),
        ("", {"HOSTLER_DATA": " "}, "HOSTLER_DATA: it is empty"),
        ("", {"HOSTLER_DATA": "~nobody-of-this-name/x"}, "HOSTLER_DATA: the home folder in"),
        ("strict_images = 7", {}, "7 is not true or false"),
        ("allowed_hosts = [3]", {}, "allowed_hosts: [3] is not a list of names"),
        ("allowed_hosts = 3", {}, "allowed_hosts: 3 is not a list of names"),
        ("", {"HOSTLER_S3_ENDPOINT": "s3.example"}, "HOSTLER_S3_ENDPOINT: it is neither a URL"),
        ("", {"HOSTLER_S3_ENDPOINT": "ftp://s3.example"}, "HOSTLER_S3_ENDPOINT: it is neither a URL"),
        ("", {"HOSTLER_S3_ENDPOINT": "http://"}, "HOSTLER_S3_ENDPOINT: it is neither a URL"),
        ("", {"HOSTLER_S3_ENDPOINT": "http://[1"}, "HOSTLER_S3_ENDPOINT: it is neither a URL"),
        ("", {"HOSTLER_S3_ENDPOINT": "http://s3.example:99999"}, "HOSTLER_S3_ENDPOINT: it is neither a URL"),
        ("s3_endpoint = true", {}, "s3_endpoint: it is neither a URL"),
        ("", {"HOSTLER_S3_ENDPOINT": "http://me:word@s3.example"}, "the URL must not hold a user, a password"),
        ("", {"HOSTLER_INSTANCE_MEMORY": "256"}, "HOSTLER_INSTANCE_MEMORY: 256 means bytes; did you mean 256MiB?"),
        ("instance_memory = 1048575", {}, "instance_memory: 1048575 means bytes"),
        ("", {"HOSTLER_INSTANCE_MEMORY": "lots"}, "'lots' is not a size such as 256MiB"),
        ("", {"HOSTLER_STRICT_IMAGES": "perhaps"}, "'perhaps' is not true or false"),
        ("", {"HOSTLER_CONFIG": "/nonexistent/x.toml"}, "/nonexistent/x.toml, which does not exist"),
    ],
)
def test_an_error_is_one_line_that_names_the_source_of_the_value(
    tmp_path: Path, toml: str, environ: dict[str, str], message: str
):
    (tmp_path / "hostler.toml").write_text(toml)
    with pytest.raises(UserError) as caught:
        load(tmp_path, **environ)
    assert message in str(caught.value)
    if toml.startswith(("prot", "images", "[images]")):
        assert str(tmp_path / "hostler.toml") in str(caught.value)


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("100KiB", 102_400), ("7b", 7), ("1048576", 2**20)])
def test_a_memory_below_one_mebibyte_needs_its_unit(tmp_path: Path, text: str, count: int):
    assert load(tmp_path, HOSTLER_INSTANCE_MEMORY=text).instance_memory == count


def test_a_variable_of_no_setting_is_reported_with_the_variable_of_a_similar_name():
    variables = {settings.variable(setting.name): "" for setting in settings.Settings.described()}
    others = {"HOSTLER_CONFIG": "", "HOSTLER_TEST_REQUIRE": "", "PATH": "", "hostler_port": ""}
    assert settings.unknown_variables({**variables, **others}) == []
    assert settings.unknown_variables({"HOSTLER_IDLETTL": "5", "HOSTLER_KEYFILE": "", "HOSTLER_XYZ": ""}) == [
        ("HOSTLER_IDLETTL", "HOSTLER_IDLE_TTL"),
        ("HOSTLER_KEYFILE", "HOSTLER_KEYS_FILE"),
        ("HOSTLER_XYZ", ""),
    ]


def test_a_password_in_a_setting_is_not_repeated(tmp_path: Path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, HOSTLER_S3_ENDPOINT="http://me:word@s3.example")
    assert "word@" not in str(caught.value)


def test_the_error_for_a_file_that_is_not_text_is_in_plain_words(tmp_path: Path):
    (tmp_path / "hostler.toml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"cannot be read: it is not UTF-8$"):
        load(tmp_path)


def test_the_limits_themselves_are_allowed(tmp_path: Path):
    allowed = {
        "port": 65535,
        "gateways": 1,
        "hold": 0,
        "memory_fraction": 1,
        "archive_max_ratio": 1,
        "bubblewrap": "on",
    }
    resolved = load(tmp_path, allowed)
    assert {name: getattr(resolved, name) for name in allowed} == allowed


def test_every_default_is_a_value_that_a_user_may_set(tmp_path: Path):
    for name, default, _, _ in settings.Settings.described():
        given = load(tmp_path, {name: list(default) if isinstance(default, tuple) else default})
        assert getattr(given, name) == getattr(load(tmp_path), name), name


@pytest.mark.parametrize(
    ("endpoint", "region", "url"),
    [
        ("", "us-east-1", ""),
        ("http://127.0.0.1:8333/", "us-east-1", "http://127.0.0.1:8333"),
        ("aws", "eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        ("aws", "cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_s3_of_artifacts_has_a_url(tmp_path: Path, endpoint: str, region: str, url: str):
    assert load(tmp_path, HOSTLER_S3_ENDPOINT=endpoint, HOSTLER_REGION=region).s3_url == url


def test_settings_survive_the_way_to_a_child_process_as_json(tmp_path: Path):
    (tmp_path / "hostler.toml").write_text('allowed_hosts = ["a"]\n[images]\n"a:1" = "run a"\n')
    resolved = load(tmp_path, {"port": 0})
    assert settings.restore(json.loads(json.dumps(settings.dump(resolved)))) == resolved


def test_every_setting_is_described():
    for setting in settings.Settings.described():
        assert setting.help, setting.name
        assert not setting.help.endswith("."), setting.name


# --- access keys ---------------------------------------------------------------------------------------------------


def keys_file(folder: Path, text: str, mode: int = 0o600) -> settings.Settings:
    path = folder / "keys.toml"
    path.write_text(text)
    path.chmod(mode)
    return load(folder, HOSTLER_SIGNATURES="verify", HOSTLER_KEYS_FILE=str(path))


def test_access_keys_are_lines_of_a_file_and_not_in_the_settings(tmp_path: Path):
    resolved = keys_file(tmp_path, 'AKIDEXAMPLE = "a/secret+"\n"b@home" = "another"\n')
    assert settings.access_keys(resolved) == {"AKIDEXAMPLE": "a/secret+", "b@home": "another"}
    assert "a/secret+" not in json.dumps(settings.dump(resolved))
    assert settings.restore(json.loads(json.dumps(settings.dump(resolved)))) == resolved


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_open"),
    [
        (0o100440, 0, 10001, False),  # a Secret of Kubernetes in a pod with a group of its own
        (0o100444, 0, 10001, True),
        (0o100460, 0, 10001, True),
        (0o100440, 10001, 10001, True),
        (0o100440, 0, 0, True),
        (0o100400, 0, 0, False),
    ],
)
def test_a_file_of_secrets_is_open_to_others_unless_root_gave_it_to_this_users_group(
    mode: int, owner: int, user: int, is_open: bool
):
    status = os.stat_result((mode, 0, 0, 1, owner, user, 0, 0, 0, 0))
    assert settings.is_open_to_others(status, user) is is_open


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_keys_file_that_other_users_can_open_is_refused(tmp_path: Path, mode: int):
    with pytest.raises(UserError, match=f"its mode is {mode:o}.*chmod 600"):
        settings.access_keys(keys_file(tmp_path, 'A = "secret"', mode))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key"),
        ("A = secret", "is not TOML, at line 1"),
        ('[table]\nA = "secret"', "entry 1 is not of the form"),
        ('A = "ok"\nB = ["secret"]', "entry 2 is not of the form"),
        ('A = " "', "entry 1 is not of the form"),
        ('"secret key" = "secret"', "entry 1 is not of the form"),
        ('"secret/key" = "secret"', "entry 1 is not of the form"),
    ],
)
def test_the_error_for_a_wrong_keys_file_quotes_nothing_of_it(tmp_path: Path, text: str, message: str):
    with pytest.raises(UserError) as error:
        settings.access_keys(keys_file(tmp_path, text))
    assert message in str(error.value)
    assert "secret" not in str(error.value).replace("its secret key", "")


def test_verifying_needs_a_keys_file_that_exists(tmp_path: Path):
    with pytest.raises(UserError, match="needs keys_file"):
        settings.access_keys(load(tmp_path, HOSTLER_SIGNATURES="verify"))
    missing = load(tmp_path, HOSTLER_SIGNATURES="verify", HOSTLER_KEYS_FILE=str(tmp_path / "none"))
    with pytest.raises(UserError, match="cannot be read: No such file"):
        settings.access_keys(missing)


def test_the_tables_of_a_cluster_are_read_and_passed_on_to_a_child(tmp_path: Path):
    (tmp_path / "hostler.toml").write_text(
        """
[kubernetes]
namespace = "models"
image_pull_secrets = ["one"]
spread = "hard"
[instances]
"ml.g5.*" = {gpu = 1, node_selector = {pool = "gpu"}, tolerations = [{key = "gpu", operator = "Exists"}]}
"*" = {cpu = 0.5, memory = "2GiB"}
"""
    )
    found = load(tmp_path)
    assert (found.kubernetes.namespace, found.kubernetes.spread) == ("models", "hard")
    assert found.kubernetes.service_account == "hostler-instance"
    assert [*found.instances] == ["ml.g5.*", "*"]
    assert found.instances["*"].memory == 2 * 2**30
    assert found.instances["ml.g5.*"].tolerations[0].key == "gpu"
    assert settings.restore(json.loads(json.dumps(settings.dump(found)))) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[kubernetes]\nnamespaces = "x"', "unknown field `namespaces`"),
        ('[kubernetes]\nnamespace = "No Name"', "$.namespace"),
        ('[kubernetes]\nspread = "even"', "$.spread"),
        ("[instances]\n'ml.x' = 1", "'ml.x'"),
        ("[instances]\n'ml.x' = {memory = 'much'}", "'much' is not a size"),
        ("[instances]\n'ml.x' = {memory = '1'}", "did you mean 1MiB"),
        ("[instances]\n'ml.x' = {memory = 1}", "less than 1MiB"),
        ("[instances]\n'ml.x' = {cpu = 0}", "$.cpu"),
        ("[instances]\n'ml.x' = {cpus = 1}", "unknown field `cpus`"),
        ("[instances]\n'ml.x' = {tolerations = [{seconds = 1}]}", "unknown field `seconds`"),
        ("instances = 1", "must be a table"),
    ],
)
def test_a_wrong_table_of_a_cluster_is_said_with_its_name(tmp_path: Path, text: str, reason: str):
    (tmp_path / "hostler.toml").write_text(text)
    with pytest.raises(UserError, match=r"hostler\.toml: \[(kubernetes|instances)\]: ") as refused:
        load(tmp_path)
    assert reason in str(refused.value)
