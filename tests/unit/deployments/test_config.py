"""Settings: who wins, what is refused and in what words, and that configs/ says what the models say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from deployments.config import AppArgs, Settings, load_settings
from shards.errors import InvalidRequest

CONFIGS = Path(__file__).parents[3] / "configs"


def test_defaults_need_no_source() -> None:
    assert load_settings() == Settings()
    assert Settings().http.host == "127.0.0.1"
    assert Settings().http.port == 6333


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "shoal.yaml"
    file.write_text("http:\n  port: 1001\n  host: 127.0.0.2\nrouter:\n  replicas: 3\ndata_folder: from-file\n")
    environment = {"SHOAL_HTTP__PORT": "1002", "SHOAL_ROUTER__REPLICAS": "4", "SHOAL_DATA_FOLDER": "from-environment"}
    settings = load_settings(file, environment, {"http.port": 1003, "data_folder": None})
    assert settings.http.port == 1003
    assert settings.router.replicas == 4
    assert settings.http.host == "127.0.0.2"
    assert settings.data_folder == Path("from-environment")
    assert settings.limits == Settings().limits


def test_other_variables_with_our_prefix_are_left_alone() -> None:
    kubernetes = {
        "SHOAL_PORT": "tcp://10.0.0.1:6333",
        "SHOAL_SERVICE_HOST": "10.0.0.1",
        "PATH": "x",
        "HTTP__PORT": "1",
    }
    assert load_settings(environment=kubernetes) == Settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("htpp:\n  port: 1\n", "there is no setting 'htpp'"),
        ("http:\n  prot: 1\n", "there is no setting 'http.prot' (value 1)"),
        ("http:\n  port: 70000\n", "http.port = 70000 is refused"),
        ("- 1\n", "must hold keys and values, not list"),
        ("http: {port: 1\n", "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=re.escape(expected)) as caught:
        load_settings(file)
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="can't be read: No such file"):
        load_settings(tmp_path / "none.yaml")


def test_the_source_of_a_bad_value_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^the environment: http.port = 'many' is refused"):
        load_settings(environment={"SHOAL_HTTP__PORT": "many"})
    with pytest.raises(InvalidRequest, match=r"^the environment: there is no setting 'htpp'"):
        load_settings(environment={"SHOAL_HTPP__PORT": "1"})
    with pytest.raises(InvalidRequest, match=r"^the command line: cluster.shard_count = 0 is refused"):
        load_settings(flags={"cluster.shard_count": 0})


def test_default_yaml_says_the_defaults() -> None:
    assert Settings.model_validate(yaml.safe_load((CONFIGS / "default.yaml").read_text())) == Settings()


def test_default_yaml_mentions_and_comments_every_key() -> None:
    lines = (CONFIGS / "default.yaml").read_text().splitlines()
    for path in _keys(Settings):
        *sections, key = path
        pattern = re.compile(rf"{'  ' * len(sections)}{key}:")
        found = [number for number, line in enumerate(lines) if pattern.match(line)]
        assert len(found) >= 1, f"{'.'.join(path)} is missing"
        assert any("#" in lines[number] or "#" in lines[number - 1] for number in found), f"{path} has no comment"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_settings_files_are_valid(file: Path) -> None:
    content = yaml.safe_load(file.read_text())
    if "applications" not in content:  # Serve's own files are checked where they are used
        load_settings(file)


def test_what_the_application_gets_travels_as_json() -> None:
    arguments = AppArgs(data_folder=Path("/somewhere"), cluster_id="c", node_id="n")
    assert AppArgs.model_validate_json(arguments.model_dump_json()) == arguments


def _keys(model: type[BaseModel]) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += [(name, *inner) for inner in _keys(field.annotation)]
        else:
            keys.append((name,))
    return keys
