"""Settings: where they come from and who wins, what a mistake is told, and the commands that need no server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.config import Settings, load_settings
from lookalike_server.domain.errors import Code, LookalikeError

MODEL: dict[str, Any] = {"model": "models/shoes"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from where the tests run."""
    for key in [key for key in os.environ if key.upper().startswith("LOOKALIKE_")]:
        monkeypatch.delenv(key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file to write."""
    return tmp_path / "lookalike.toml"


@pytest.fixture
def runner() -> Iterator[CliRunner]:
    """Runs commands; `serve` sends the log to a stream that is gone after it, so that is set back."""
    yield CliRunner()
    structlog.reset_defaults()


def rejection(flags: dict[str, Any], config: Path | None = None) -> str:
    """Why these settings are rejected."""
    with pytest.raises(LookalikeError) as caught:
        load_settings(flags, config)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def test_defaults() -> None:
    """Only the model must be given; a flag that was not given counts as nothing."""
    settings = load_settings(MODEL | {"listen": None, "intra_op_threads": None})
    assert settings.model == Path("models/shoes")
    assert settings.listen == "127.0.0.1:50051"
    assert settings == Settings(**MODEL)


def test_who_wins(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Flags win over the environment, that over the file, and that over the defaults."""
    file.write_text('model = "from-file"\nmax_batch = 2\nmax_queue = 2\nthreads = 2\n', encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_MAX_BATCH_SIZE", "3")
    monkeypatch.setenv("LOOKALIKE_MAX_QUEUE_SIZE", "3")
    settings = load_settings({"max_batch_size": "4"}, file)
    found = (
        settings.max_batch_size,
        settings.max_queue_size,
        settings.intra_op_threads,
        settings.model,
        settings.full_scan_threshold,
    )
    assert found == (4, 3, 2, Path("from-file"), Settings.model_fields["full_scan_threshold"].default)


def test_file_from_the_environment(monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path) -> None:
    """LOOKALIKE_CONFIG names the file; a flag names another one in its place."""
    file.write_text("threads = 2\n", encoding="utf-8")
    other = tmp_path / "other.toml"
    other.write_text("max_batch_size = 5\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(file))
    assert load_settings(MODEL).intra_op_threads == 2
    assert (load_settings(MODEL, other).intra_op_threads, load_settings(MODEL, other).max_batch_size) == (0, 5)


def test_settings_do_not_change() -> None:
    """Settings are read once."""
    settings = load_settings(MODEL)
    with pytest.raises(ValueError, match="frozen"):
        settings.intra_op_threads = 5


def test_missing_model() -> None:
    """What must be given is asked for by its flag and its variable."""
    assert rejection({}) == "model is needed: give --model or LOOKALIKE_MODEL"


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of ours that is no setting is a typing error, and named."""
    monkeypatch.setenv("LOOKALIKE_MAX_BACH", "3")
    assert rejection(MODEL) == "LOOKALIKE_MAX_BACH is not a setting; `lookalike-server show-config` lists them"


def test_the_clients_variables_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's variables may stand beside the server's."""
    monkeypatch.setenv("LOOKALIKE_CLIENT_TARGET", "localhost:1")
    monkeypatch.setenv("LOOKALIKE_CLIENT_TOKEN", "abc")
    monkeypatch.setenv("OTHER_THREADS", "x")
    assert load_settings(MODEL) == Settings(**MODEL)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_bach = 3\n", "max_bach: Extra inputs are not permitted"),
        ("[server]\nthreads = 3\n", "server: Extra inputs are not permitted"),
        ('threads = "many"\n', "threads: "),
        ("threads = [1]\n", "threads: "),
        ("threads = \n", "cannot read the configuration"),
        ("\xff", "cannot read the configuration"),
    ],
)
def test_wrong_file(file: Path, text: str, told: str) -> None:
    """A key that is no setting, a wrong value and what is not TOML are named."""
    file.write_text(text, encoding="latin-1")
    assert told in rejection(MODEL, file)


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there is an error, wherever it was named."""
    assert str(tmp_path / "none.toml") in rejection(MODEL, tmp_path / "none.toml")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(tmp_path / "gone.toml"))
    assert str(tmp_path / "gone.toml") in rejection(MODEL)


WRONG = [
    ("provider", "tpu"),
    ("threads", "-1"),
    ("threads", "two"),
    ("threads", "1.5"),
    ("max_batch_size", "0"),
    ("max_batch_size", "1025"),
    ("max_queue_size", "0"),
    ("max_image_bytes", "0"),
    ("max_message_bytes", "10"),
    ("full_scan_threshold", "0"),
    ("hnsw_m", "1"),
    ("shutdown_grace_seconds", "-0.5"),
    ("shutdown_grace_seconds", "nan"),
    ("shutdown_grace_seconds", "inf"),
    ("log_format", "xml"),
    ("log_level", "INFO"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A value outside its range is rejected with the setting's name and the value, from a flag as from a variable."""
    for flags in (MODEL | {name: value}, MODEL):
        message = rejection(flags)
        assert message.startswith(f"{name}: ")
        assert message.endswith(f"(got {value!r})")
        monkeypatch.setenv(f"LOOKALIKE_{name.upper()}", value)


def test_every_setting_is_described() -> None:
    """Every setting tells what it means; the flags, `show-config` and the documentation are made from that."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_show_config(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show-config` prints every setting with its meaning and the value in force."""
    monkeypatch.setenv("LOOKALIKE_MAX_QUEUE_SIZE", "7")
    ran = runner.invoke(main, ["show-config", "--model", "models/shoes", "--max-batch-size", "4"])
    assert ran.exit_code == 0
    lines = ran.stdout.splitlines()
    assert len(lines) == 2 * len(Settings.model_fields)
    for at, (name, field) in enumerate(Settings.model_fields.items()):
        assert lines[2 * at] == f"# {field.description}"
        assert lines[2 * at + 1].startswith(f"{name} = ")
    assert {"model = models/shoes", "max_batch_size = 4", "max_queue_size = 7", "threads = 0"} <= set(lines)


@pytest.mark.parametrize("command", ["serve", "show-config"])
def test_every_setting_has_a_flag(runner: CliRunner, command: str) -> None:
    """Each setting can be given as a flag, and the help tells it with its default."""
    ran = runner.invoke(main, [command, "--help"])
    assert ran.exit_code == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} VALUE" in ran.stdout


@pytest.mark.parametrize("command", ["serve", "show-config"])
def test_a_mistake_ends_the_command(runner: CliRunner, command: str) -> None:
    """A wrong setting is told in one line on stderr, with exit status 1."""
    ran = runner.invoke(main, [command, "--model", "m", "--intra-op-threads", "many"])
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("lookalike-server: threads: ")
    assert len(ran.stderr.splitlines()) == 1


def test_serving_a_missing_model(runner: CliRunner, tmp_path: Path) -> None:
    """`serve` without a model folder says where it looked and how to make one, with exit status 1."""
    options = {"model": tmp_path / "none", "data_dir": tmp_path / "data", "listen": "127.0.0.1:0", "drain-seconds": "0"}
    ran = runner.invoke(main, ["serve", *(f"--{name}={value}" for name, value in options.items())])
    assert ran.exit_code == 1
    assert f"lookalike-server: cannot read {tmp_path / 'none' / 'model.json'}" in ran.stderr
    assert "lookalike-exporter export" in ran.stderr


def test_health_of_nothing(runner: CliRunner) -> None:
    """`health` says that nothing answers, and exits with 1."""
    with socket.socket() as bound:
        # Bound but not listening: nobody else can take the port meanwhile, and nobody answers.
        bound.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{bound.getsockname()[1]}"
        ran = runner.invoke(main, ["health", "--target", target, "--timeout", "30"])
    assert ran.stdout == f"no answer from {target}: UNAVAILABLE\n"
    assert ran.exit_code == 1


def test_empty_and_lower_case_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty variable counts as not given; a name counts in any case, over the file too, and so does a wrong one."""
    config = tmp_path / "settings.toml"
    config.write_text("threads = 3\nmax_batch = 5\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_AUTH_KEYS_FILE", "")
    monkeypatch.setenv("LOOKALIKE_MAX_BATCH_SIZE", "")
    monkeypatch.setenv("lookalike_threads", "2")
    settings = load_settings(MODEL, config)
    assert (settings.auth_keys_file, settings.max_batch_size, settings.intra_op_threads) == (None, 5, 2)
    monkeypatch.setenv("lookalike_treads", "2")
    assert "LOOKALIKE_TREADS" in rejection(MODEL)
