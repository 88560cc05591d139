from __future__ import annotations

from pathlib import Path

from hostler.control import access_log_reader


def line(number: int, endpoint: str = "ep", region: str = "us-east-1") -> str:
    return f'{{"time":"{number:04}","region":"{region}","endpoint":"{endpoint}","variant":"v"}}\n'


def test_each_gateways_lines_are_read_with_those_of_its_rotated_file(tmp_path: Path) -> None:
    (tmp_path / "g1.log").write_text(line(2))
    (tmp_path / "g1.log.1").write_text(line(1))
    (tmp_path / "g2.log").write_text(line(3))
    assert access_log_reader.read(tmp_path, 1000, "", "") == [
        {"gateway": "g1", "log": line(1) + line(2)},
        {"gateway": "g2", "log": line(3)},
    ]


def test_the_last_complete_lines_of_a_long_log_are_read(tmp_path: Path) -> None:
    (tmp_path / "g1.log").write_text("".join(map(line, range(1000))))
    [tail] = access_log_reader.read(tmp_path, 3 * len(line(0)) + 5, "", "")
    assert tail["log"] == line(997) + line(998) + line(999)


def test_an_endpoints_lines_are_those_of_its_region(tmp_path: Path) -> None:
    others = line(2, "other") + line(3, region="eu-west-1") + line(4, 'x\\"endpoint\\":\\"ep\\"')
    (tmp_path / "g1.log").write_text(line(1) + others)
    assert access_log_reader.read(tmp_path, 10_000, "us-east-1", "ep") == [{"gateway": "g1", "log": line(1)}]


def test_a_missing_log_is_no_error(tmp_path: Path) -> None:
    assert access_log_reader.read(tmp_path / "none", 1000, "us-east-1", "ep") == []
    assert (
        access_log_reader.read(tmp_path / ("x" * 300), 1000, "us-east-1", "ep") == []
    )  # a name that is too long for a file
