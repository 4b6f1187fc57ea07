"""Settings: their sources and precedence, the errors, renamed settings, and the commands that need no server."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.config import Settings
from lookalike_server.config_loading import load_settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.renamed import COMMANDS, SETTINGS

MODEL: dict[str, Any] = {"model": "models/shoes"}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the environment that the tests run in."""
    for key in [key for key in os.environ if key.upper().startswith("LOOKALIKE_")]:
        monkeypatch.delenv(key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a configuration file."""
    return tmp_path / "lookalike.toml"


@pytest.fixture
def runner() -> CliRunner:
    """Run commands."""
    return CliRunner()


def rejection(flags: dict[str, Any], config: Path | None = None) -> str:
    """Return why these settings are rejected."""
    with pytest.raises(LookalikeError) as caught:
        load_settings(flags, config)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def test_defaults() -> None:
    """Only the model is required; a flag that is None was not given."""
    settings = load_settings(MODEL | {"listen": None, "intra_op_threads": None})
    assert settings.model == Path("models/shoes")
    assert settings.listen == "127.0.0.1:50051"
    assert settings == Settings(**MODEL)


def test_precedence(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Flags override variables, variables the file, and the file the defaults."""
    file.write_text(
        'model = "from-file"\nmax_batch_size = 2\nmax_queue_size = 2\nintra_op_threads = 2\n', encoding="utf-8"
    )
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
    """LOOKALIKE_CONFIG names the file; `--config` overrides it."""
    file.write_text("intra_op_threads = 2\n", encoding="utf-8")
    other = tmp_path / "other.toml"
    other.write_text("max_batch_size = 5\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(file))
    assert load_settings(MODEL).intra_op_threads == 2
    assert (load_settings(MODEL, other).intra_op_threads, load_settings(MODEL, other).max_batch_size) == (0, 5)


def test_settings_do_not_change() -> None:
    """Settings are frozen."""
    settings = load_settings(MODEL)
    with pytest.raises(ValueError, match="frozen"):
        settings.intra_op_threads = 5


def test_missing_model() -> None:
    """A missing setting is named by its flag and its variable."""
    assert rejection({}) == "model is missing: set --model or LOOKALIKE_MODEL"


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with our prefix that is no setting is an error that names it."""
    monkeypatch.setenv("LOOKALIKE_MAX_BACH", "3")
    assert rejection(MODEL) == "LOOKALIKE_MAX_BACH is not a setting; did you mean LOOKALIKE_MAX_BATCH_SIZE?"


def test_variables_of_the_client_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's variables may be set beside the server's."""
    monkeypatch.setenv("LOOKALIKE_CLIENT_TARGET", "localhost:1")
    monkeypatch.setenv("LOOKALIKE_CLIENT_TOKEN", "abc")
    monkeypatch.setenv("OTHER_THREADS", "x")
    assert load_settings(MODEL) == Settings(**MODEL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_bach = 3\n", "is not a setting; did you mean max_batch_size?"),
        ("color = 3\n", "is not a setting; `lookalike-server show-config` lists them"),
        ("[server]\nintra_op_threads = 3\n", "is a table; settings are not in tables"),
        ('intra_op_threads = "many"\n', "intra_op_threads: must be a whole number (got 'many')"),
        ("intra_op_threads = [1]\n", "intra_op_threads: must be a whole number (got [1])"),
        ("listen = 50051\n", "listen: must be a text, in quotes (got 50051)"),
        ("watchdog = 7\n", "watchdog: must be true or false (got 7)"),
        ("hnsw_m = 1\n", "hnsw_m: must be 2 or more (got 1)"),
        ('provider = "tpu"\n', "provider: must be one of 'auto', 'tensorrt', 'cuda', 'openvino' or 'cpu' (got 'tpu')"),
        ("intra_op_threads = \n", "cannot read the configuration"),
        ("\xff", "cannot read the configuration"),
    ],
)
def test_wrong_file(file: Path, text: str, message: str) -> None:
    """An unknown key, a wrong value and a file that is not TOML are errors that name them."""
    file.write_text(text, encoding="latin-1")
    assert message in rejection(MODEL, file)


def test_an_unknown_setting_is_named_before_a_missing_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error explains what is missing; so does a wrong value."""
    file.write_text('models = "models/shoes"\n', encoding="utf-8")
    assert rejection({}, file) == f"models in {file} is not a setting; did you mean model?"
    monkeypatch.setenv("LOOKALIKE_MODELS", "models/shoes")
    assert rejection({}) == "LOOKALIKE_MODELS is not a setting; did you mean LOOKALIKE_MODEL?"
    monkeypatch.delenv("LOOKALIKE_MODELS")
    assert rejection({"hnsw_m": "1"}) == "hnsw_m: must be 2 or more (got '1')"


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file is an error, wherever it was named."""
    assert str(tmp_path / "none.toml") in rejection(MODEL, tmp_path / "none.toml")
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(tmp_path / "gone.toml"))
    assert str(tmp_path / "gone.toml") in rejection(MODEL)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_search_on_the_gpu_beside_a_provider_without_one(provider: str) -> None:
    """A search on the GPU needs a provider that may use one."""
    message = rejection(MODEL | {"search_device": "gpu", "provider": provider})
    assert message.startswith(f"search_device gpu needs a GPU, and provider {provider} uses none: set provider to auto")
    assert load_settings(MODEL | {"search_device": "gpu"}).search_device == "gpu"


WRONG = [
    ("provider", "tpu"),
    ("intra_op_threads", "-1"),
    ("intra_op_threads", "two"),
    ("intra_op_threads", "1.5"),
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
    """A value out of range is an error with the setting and the value, from a flag as from a variable."""
    for flags in (MODEL | {name: value}, MODEL):
        message = rejection(flags)
        assert message.startswith(f"{name}: ")
        assert message.endswith(f"(got {value!r})")
        monkeypatch.setenv(f"LOOKALIKE_{name.upper()}", value)


def test_every_setting_is_described() -> None:
    """Every setting has a description, which flags, `show-config` and the documentation use."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_show_config(runner: CliRunner, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """`show-config` prints every setting with its description, its value and where that came from."""
    monkeypatch.setenv("LOOKALIKE_MAX_QUEUE_SIZE", "7")
    file.write_text("max_queue_size = 9\nwatchdog = false\n", encoding="utf-8")
    ran = runner.invoke(
        main, ["show-config", "--config", str(file), "--model", "models/shoes", "--max-batch-size", "4"]
    )
    assert ran.exit_code == 0
    lines = ran.stdout.splitlines()
    assert len(lines) == 2 * len(Settings.model_fields)
    for at, (name, field) in enumerate(Settings.model_fields.items()):
        assert lines[2 * at] == f"# {field.description}"
        assert lines[2 * at + 1].removeprefix("# ").startswith(f"{name} = ")
    assert {
        'model = "models/shoes"  # --model',
        "max_batch_size = 4  # --max-batch-size",
        "max_queue_size = 7  # LOOKALIKE_MAX_QUEUE_SIZE",
        f"watchdog = false  # {file}",
        "intra_op_threads = 0  # default",
        '# audit_log = ""  # not set',
    } <= set(lines)


def test_show_config_is_a_file_of_settings(runner: CliRunner, tmp_path: Path, file: Path) -> None:
    """What `show-config` prints is TOML that gives the same settings, also where texts need escapes."""
    folder = tmp_path / 'odd "name" # of\\a folder \x7f \N{SNOWMAN}\n'
    flags = {"model": "models/shoes", "data-dir": folder, "recall-sample-rate": "0.25", "audit-log": "log.jsonl"}
    ran = runner.invoke(main, ["show-config", *(f"--{name}={value}" for name, value in flags.items())])
    file.write_text(ran.stdout, encoding="utf-8")
    found = load_settings({}, file)
    assert found == load_settings({name.replace("-", "_"): str(value) for name, value in flags.items()})
    assert (found.data_dir, found.recall_sample_rate) == (folder, 0.25)


def test_show_config_needs_no_model(runner: CliRunner) -> None:
    """Whoever looks for the settings has not set them yet: the model that is missing is a comment."""
    ran = runner.invoke(main, ["show-config"])
    assert ran.exit_code == 0
    assert '# model = ""  # required, not set' in ran.stdout.splitlines()


@pytest.mark.parametrize("command", ["serve", "show-config"])
def test_every_setting_has_a_flag(runner: CliRunner, command: str) -> None:
    """Each setting has a flag, which the help lists."""
    ran = runner.invoke(main, [command, "--help"])
    assert ran.exit_code == 0
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')} VALUE" in ran.stdout


@pytest.mark.parametrize("command", ["serve", "show-config"])
def test_an_error_ends_the_command(runner: CliRunner, command: str) -> None:
    """A wrong setting is one line on standard error, with exit status 1."""
    ran = runner.invoke(main, [command, "--model", "m", "--intra-op-threads", "many"])
    assert ran.exit_code == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("lookalike-server: intra_op_threads: ")
    assert len(ran.stderr.splitlines()) == 1


def test_serving_a_missing_model(runner: CliRunner, tmp_path: Path) -> None:
    """`serve` without a model folder names the folder and the command that makes one, with exit status 1."""
    options = {"model": tmp_path / "none", "data-dir": tmp_path / "data", "listen": "127.0.0.1:0"}
    ran = runner.invoke(main, ["serve", *(f"--{name}={value}" for name, value in options.items())])
    assert ran.exit_code == 1
    assert f"lookalike-server: cannot read {tmp_path / 'none' / 'model.json'}" in ran.stderr
    assert "lookalike-exporter export" in ran.stderr


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("0.0.0.0:1", "127.0.0.1:1"),
        ("[::]:1", "[::1]:1"),
        ("unix:/none/socket", "unix:/none/socket"),
    ],
)
def test_health_asks_where_the_settings_say(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, file: Path, listen: str, target: str
) -> None:
    """The address comes from the file, the variable and the flag, each over the former; any address is loopback."""

    def asked(*flags: str) -> str:
        ran = runner.invoke(main, ["health", "--timeout", "5", *flags])
        assert ran.exit_code == 1
        return ran.stdout.removeprefix("no answer from ").rpartition(": ")[0]

    file.write_text(f'listen = "{listen}"\n', encoding="utf-8")
    assert asked("--config", str(file)) == target
    monkeypatch.setenv("LOOKALIKE_LISTEN", "127.0.0.1:2")
    assert asked("--config", str(file)) == "127.0.0.1:2"
    assert asked("--listen", listen) == target
    assert asked("--listen", listen, "--target", "127.0.0.1:3") == "127.0.0.1:3"


def test_health_of_any_free_port(runner: CliRunner) -> None:
    """A server that listens on any free port has to be named."""
    ran = runner.invoke(main, ["health", "--listen", "127.0.0.1:0"])
    assert (ran.exit_code, "name the server with --target" in ran.stderr) == (1, True)


@pytest.mark.parametrize("command", [["verify"], ["backup", "copy.sqlite"]])
def test_every_command_reads_the_file(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, file: Path, tmp_path: Path, command: list[str]
) -> None:
    """The catalog's folder comes from --config, from the variable over it, and from the flag over both."""
    file.write_text(f'data_dir = "{tmp_path}/one"\n', encoding="utf-8")

    def folder(*flags: str) -> str:
        ran = runner.invoke(main, [*command, *flags])
        assert ran.exit_code == 1
        return ran.stderr.split()[1].removesuffix("/catalog.sqlite")

    assert folder("--config", str(file)) == f"{tmp_path}/one"
    monkeypatch.setenv("LOOKALIKE_CONFIG", str(file))
    assert folder() == f"{tmp_path}/one"
    monkeypatch.setenv("LOOKALIKE_DATA_DIR", f"{tmp_path}/two")
    assert folder() == f"{tmp_path}/two"
    assert folder("--data-dir", f"{tmp_path}/three") == f"{tmp_path}/three"


def test_keys_read_the_file(runner: CliRunner, file: Path, tmp_path: Path) -> None:
    """`keys` finds its file in --config; without one anywhere it says how to name it."""
    file.write_text(f'auth_keys_file = "{tmp_path}/keys.toml"\n', encoding="utf-8")
    assert runner.invoke(main, ["keys", "add", "shop", "--role", "reader", "--config", str(file)]).exit_code == 0
    assert "shop" in runner.invoke(main, ["keys", "list", "--config", str(file)]).stdout
    ran = runner.invoke(main, ["keys", "list"])
    assert (ran.exit_code, "set --auth-keys-file or LOOKALIKE_AUTH_KEYS_FILE" in ran.stderr) == (2, True)


def test_health_of_nothing(runner: CliRunner) -> None:
    """`health` says that no server answers, and exits with 1."""
    with socket.socket() as bound:
        # Bound but not listening: no other process can take the port meanwhile, and none answers.
        bound.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{bound.getsockname()[1]}"
        ran = runner.invoke(main, ["health", "--target", target, "--timeout", "30"])
    assert ran.stdout == f"no answer from {target}: UNAVAILABLE\n"
    assert ran.exit_code == 1


def test_empty_and_lower_case_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty variable is ignored; names are case-insensitive, also over the file and where they are unknown."""
    config = tmp_path / "settings.toml"
    config.write_text("intra_op_threads = 3\nmax_batch_size = 5\n", encoding="utf-8")
    monkeypatch.setenv("LOOKALIKE_AUTH_KEYS_FILE", "")
    monkeypatch.setenv("LOOKALIKE_MAX_BATCH_SIZE", "")
    monkeypatch.setenv("lookalike_intra_op_threads", "2")
    settings = load_settings(MODEL, config)
    assert (settings.auth_keys_file, settings.max_batch_size, settings.intra_op_threads) == (None, 5, 2)
    monkeypatch.setenv("lookalike_intra_op_treads", "2")
    assert "LOOKALIKE_INTRA_OP_TREADS" in rejection(MODEL)


def test_new_names_are_settings() -> None:
    """Every new name of a renamed setting is a setting, and no old one is."""
    assert set(SETTINGS.values()) <= set(Settings.model_fields)
    assert not set(SETTINGS) & set(Settings.model_fields)


@pytest.mark.parametrize("old", SETTINGS)
def test_renamed_flag(runner: CliRunner, old: str) -> None:
    """An old flag is a usage error, as an unknown flag is, that names the new one."""
    flag = f"--{old.replace('_', '-')}"
    unknown = runner.invoke(main, ["serve", "--model", "m", "--no-such-flag", "1"])
    for arguments in ([flag, "1"], [f"{flag}=1"]):
        ran = runner.invoke(main, ["serve", "--model", "m", *arguments])
        assert ran.exit_code == unknown.exit_code == 2
        assert ran.stderr.endswith(f"\nError: {flag} was renamed to --{SETTINGS[old].replace('_', '-')}\n")


@pytest.mark.parametrize("old", SETTINGS)
def test_renamed_variable_and_key(monkeypatch: pytest.MonkeyPatch, file: Path, old: str) -> None:
    """An old variable or TOML key is an error, as an unknown one is, that names the new one."""
    file.write_text(f"{old} = 1\n", encoding="utf-8")
    assert rejection(MODEL, file) == f"{old} in {file} was renamed to {SETTINGS[old]}"
    monkeypatch.setenv(f"LOOKALIKE_{old.upper()}", "1")
    assert rejection(MODEL) == f"LOOKALIKE_{old.upper()} was renamed to LOOKALIKE_{SETTINGS[old].upper()}"


@pytest.mark.parametrize("command", [["backup", "copy.sqlite"], ["verify"]])
def test_renamed_data_folder(runner: CliRunner, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """The commands for a catalog reject the old flag and variable of its folder too, rather than use the default."""
    ran = runner.invoke(main, [*command, "--data", "shop"])
    assert (ran.exit_code, "--data was renamed to --data-dir" in ran.stderr) == (2, True)
    monkeypatch.setenv("LOOKALIKE_DATA", "shop")
    ran = runner.invoke(main, command)
    assert (ran.exit_code, "LOOKALIKE_DATA was renamed to LOOKALIKE_DATA_DIR" in ran.stderr) == (1, True)


@pytest.mark.parametrize("old", COMMANDS)
def test_renamed_command(runner: CliRunner, old: str) -> None:
    """An old command is a usage error, as an unknown one is, that names the new one."""
    ran = runner.invoke(main, [old, "--model", "m"])
    assert ran.exit_code == runner.invoke(main, ["no-such-command"]).exit_code == 2
    assert ran.stderr.endswith(f"\nError: {old} was renamed to {COMMANDS[old]}\n")
    assert runner.invoke(main, [COMMANDS[old], "--help"]).exit_code == 0
