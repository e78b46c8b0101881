"""What an operator types: each mistake is one sentence on standard error, exit code 2, and nothing is begun."""

from collections.abc import Callable
from pathlib import Path

import pytest

import consumer.__main__
import deploy.embedded.__main__
import ingest.__main__

MAINS: dict[str, Callable[[list[str]], None]] = {
    "consumer": consumer.__main__.main,
    "ingest": ingest.__main__.main,
    "headrace": deploy.embedded.__main__.main,
}
KAFKA, CLICKHOUSE = ("CONSUMER_BOOTSTRAP_SERVERS", "127.0.0.1:9"), ("CONSUMER_CLICKHOUSE_URL", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from no settings of anybody's; what is not refused must not become another program here."""
    for name in (
        "CONSUMER_BOOTSTRAP_SERVERS",
        "CONSUMER_CLICKHOUSE_URL",
        "INGEST_BOOTSTRAP_SERVERS",
        "INGEST_SPOOL_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.execv", began)
    monkeypatch.setattr("consumer.__main__.start_logging", lambda _: None)
    monkeypatch.setattr("deploy.embedded.__main__.run", began)


def began(*arguments: object) -> None:
    """Fail instead of beginning."""
    raise AssertionError(arguments)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs a command, which must refuse, and returns its sentence without the program's name."""

    def run(program: str, *arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            MAINS[program](list(arguments))
        output, said = capsys.readouterr()
        assert (end.value.code, output) == (2, ""), said
        assert said.startswith(f"{program}: ")
        assert said.count("\n") == 1
        assert "Traceback" not in said
        return said.removeprefix(f"{program}: ").strip()

    return run


NUMBERS = ["", "-1", "0", "abc", "1.5", "1e3", "nan", "99999999999999999999", "१"]
WHOLE = [  # program, command and option; what no whole number of it can be
    ("consumer", "replay --limit", [*NUMBERS, "1000001"]),
    ("consumer", "replay --partition", [*(text for text in NUMBERS if text != "0"), "2147483648"]),
    ("headrace", "--http-port", [*NUMBERS, "65536", "99999"]),
    ("headrace", "--clickhouse-port", [*NUMBERS, "65536"]),
    ("headrace", "--clickhouse-native-port", [*NUMBERS, "65536"]),
    ("headrace", "--kafka-port", [*NUMBERS, "65536"]),
    ("headrace", "--console-port", [*(text for text in NUMBERS if text != "0"), "65536"]),
    ("headrace", "--workers", [*(text for text in NUMBERS if text != "0"), "-3", "65"]),
]


@pytest.mark.parametrize(
    ("program", "option", "text"), [(program, option, text) for program, option, texts in WHOLE for text in texts]
)
def test_a_number_out_of_bounds_names_them(program: str, option: str, text: str, refused: Callable[..., str]) -> None:
    """Negative, zero, huge, fractions, and no number at all."""
    *command, name = option.split()

    assert refused(program, *command, f"{name}={text}").startswith(f"argument {name}: must be a whole number from ")


SECONDS = [("consumer", "audit --patience-s"), ("ingest", "spool drain --timeout")]


@pytest.mark.parametrize("text", ["", "-1", "abc", "nan", "inf", "1e3", "86400.1", "99999999999999999999"])
@pytest.mark.parametrize(
    ("program", "option"), [("consumer", "audit --patience-s"), ("ingest", "spool drain --timeout")]
)
def test_seconds_are_a_day_at_the_most(program: str, option: str, text: str, refused: Callable[..., str]) -> None:
    """Nobody waits longer on purpose, and `inf` would never end."""
    *command, name = option.split()

    assert refused(program, *command, f"{name}={text}") == f"argument {name}: must be from 0 to 86400"


@pytest.mark.parametrize("name", ["--since", "--until"])
@pytest.mark.parametrize(
    "text", ["", "notadate", "2026-13-01", "2026-02-30", "1969-12-31", "2300-01-02", "9999-12-31", "1"]
)
def test_a_date_is_a_date(name: str, text: str, refused: Callable[..., str]) -> None:
    """Before ClickHouse is asked."""
    assert refused("consumer", "replay", f"{name}={text}").startswith(
        f"argument {name}: must be a date or a time from "
    )


@pytest.mark.parametrize(
    "text", ["", "2026-13-01", "2026-02-30", "20260131", "2026-1-1", "2026-W05-6", "1969-12-31", "2300-01-01", "today"]
)
def test_a_day_is_a_day(text: str, refused: Callable[..., str]) -> None:
    """Before ClickHouse is asked."""
    assert refused("consumer", "archive", f"--day={text}") == (
        "argument --day: must be a day from 1970 to 2299, such as 2026-01-31"
    )


@pytest.mark.parametrize("command", ["erase", "export"])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--user-id=", "argument --user-id: must have 1 to"),
        ("--anon-id=", "argument --anon-id: must have 1 to"),
        ("--event-id=7", "argument --event-id: must be a UUID"),
        ("--event-id=", "argument --event-id: must be a UUID"),
    ],
)
def test_whose_data_is_named_exactly(command: str, option: str, says: str, refused: Callable[..., str]) -> None:
    """An empty id would be everybody's who has none."""
    assert refused("consumer", command, option).startswith(says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("erase", "give either --again, or whose data"),
        ("erase --go", "give either --again, or whose data"),
        ("erase --again --user-id u", "give either --again, or whose data"),
        ("export", "whose data? give --user-id"),
        ("erase --again", "CONSUMER_ERASURE_KEY_FILE: is required to erase"),
        ("restore 2026-01-31.parquet", "2026-01-31.parquet: of which table? give --table"),
    ],
)
def test_a_person_a_key_and_a_table_are_named_before_the_server_is_asked(
    arguments: str, says: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is erased by an option that was forgotten."""
    monkeypatch.setenv(*CLICKHOUSE)
    monkeypatch.delenv("CONSUMER_ERASURE_KEY_FILE", raising=False)

    assert refused("consumer", *arguments.split()).startswith(says)


@pytest.mark.parametrize("text", ["", "x", "events/1", "events/1/2/3", "events/a/1", "/1/2", "a b/1/2", "events/1/-2"])
def test_a_letter_has_three_parts(text: str, refused: Callable[..., str]) -> None:
    """As the commands show them."""
    assert refused("consumer", "replay", f"--letter={text}").startswith(
        "argument --letter: must be topic/partition/off"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be FIELD=VALUE"),
        ("active", "must be FIELD=VALUE"),
        ("=1", "the schema has no field ''"),
        ("colour=red", "the schema has no field 'colour'"),
        ("active=yes", "the field active needs a whole number of 32 bits"),
        ("active=1.5", "the field active needs a whole number of 32 bits"),
        ("active=", "the field active needs a whole number of 32 bits"),
        ("active=2147483648", "the field active needs a whole number of 32 bits"),
        ("occurredAt=9223372036854775808", "the field occurredAt needs a whole number of 64 bits"),
        ("eventId=1", "the field eventId needs a UUID"),
        ("headers=[]", "the field headers needs a JSON object of strings"),
        ('headers={"a":1}', "the field headers needs a JSON object of strings"),
        ("headers=" + "[" * 100_000, "the field headers needs a JSON object of strings"),
    ],
)
def test_a_repair_fits_the_event(text: str, says: str, refused: Callable[..., str]) -> None:
    """A name that is no field, and a value of another type, before any dead letter is looked for."""
    assert refused("consumer", "replay", f"--set={text}").startswith(f"argument --set: {says}")


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        ("consumer", "", "the following arguments are required: COMMAND"),
        ("consumer", "bla", "argument COMMAND: invalid choice: 'bla'"),
        ("consumer", "lag --bla", "unrecognized arguments: --bla"),
        ("consumer", "lag extra", "unrecognized arguments: extra"),
        ("consumer", "replay --g", "unrecognized arguments: --g"),
        ("consumer", "replay --reason bla", "argument --reason: invalid choice: 'bla'"),
        ("consumer", "replay --limit", "argument --limit: expected one argument"),
        ("ingest", "bla", "argument {key,spool}: invalid choice: 'bla'"),
        ("ingest", "--bla", "unrecognized arguments: --bla"),
        ("ingest", "key extra", "unrecognized arguments: extra"),
        ("ingest", "spool bla", "argument {list,drain,salvage}: invalid choice: 'bla'"),
        ("ingest", "spool salvage", "the following arguments are required: file"),
        ("headrace", "--bla", "unrecognized arguments: --bla"),
        ("headrace", "extra", "unrecognized arguments: extra"),
        ("headrace", "--work 1", "unrecognized arguments: --work 1"),
        ("headrace", "--kafka-port 8080", "the ports"),
        ("headrace", "--console-port 8123", "the ports"),
    ],
)
def test_an_unknown_name_is_one_sentence(program: str, arguments: str, says: str, refused: Callable[..., str]) -> None:
    """No usage before it, no abbreviation: `--g` must not replay."""
    assert refused(program, *arguments.split()).startswith(says)


@pytest.mark.parametrize("path", ["", "{file}", "{file}/x", "{file}/x/y", "/proc/x", "/dev/null"])
def test_a_data_directory_must_take_files(path: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    """Before anything is started: a file, below a file, where nothing can be made, no path."""
    file = tmp_path / "file"
    file.touch()

    assert refused("headrace", f"--data-dir={path.format(file=file)}").startswith("argument --data-dir: ")


@pytest.mark.parametrize("path", ["", "{file}", "{file}/x", "{file}/x/y", "/dev/null"])
def test_a_spool_directory_is_none_of_files(
    path: str, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, and in the environment by its variable's name."""
    file = tmp_path / "file"
    file.touch()
    path = path.format(file=file)

    assert refused("ingest", "spool", "list", f"--dir={path}").startswith("argument --dir: ")
    monkeypatch.setenv("INGEST_SPOOL_DIR", path)
    assert refused("ingest", "spool", "list").startswith("INGEST_SPOOL_DIR: ")
    assert refused("ingest", "spool").startswith("INGEST_SPOOL_DIR: ")
    monkeypatch.setenv("INGEST_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    assert refused("ingest", "spool", "drain").startswith("INGEST_SPOOL_DIR: ")


@pytest.mark.parametrize("path", ["", "{directory}", "{file}", "{directory}/1.db.corrupt", "/dev/null"])
def test_only_what_was_set_aside_is_salvaged(path: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    """Not any file that an operator's hand slips to."""
    file = tmp_path / "1.db"
    file.touch()

    sentence = refused("ingest", "spool", "salvage", path.format(file=file, directory=tmp_path))
    assert sentence.startswith("argument file: ")


@pytest.mark.parametrize(
    ("command", "given", "lacks"),
    [
        ("run", (), "BOOTSTRAP_SERVERS"),
        ("run", (KAFKA,), "CLICKHOUSE_URL"),
        ("audit", (KAFKA,), "CLICKHOUSE_URL"),
        ("audit", (CLICKHOUSE,), "BOOTSTRAP_SERVERS"),
        ("migrate", (KAFKA,), "CLICKHOUSE_URL"),
        ("lag", (CLICKHOUSE,), "BOOTSTRAP_SERVERS"),
        ("replay", (KAFKA,), "CLICKHOUSE_URL"),
        ("replay --go", (CLICKHOUSE,), "BOOTSTRAP_SERVERS"),
    ],
)
def test_a_command_asks_for_the_servers_that_it_speaks_to(
    command: str,
    given: tuple[tuple[str, str], ...],
    lacks: str,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the variable's name."""
    for name, text in given:
        monkeypatch.setenv(name, text)

    assert refused("consumer", *command.split()) == f"CONSUMER_{lacks}: is required"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("INGEST_KAFKA_CONFIG_FILE", __file__, f"{__file__}, line 1: not key=value"),
        ("INGEST_SCHEMA_REGISTRY_CA_FILE", __file__, f"{__file__}: holds no certificate in PEM form"),
        ("INGEST_RATE_LIMIT_STORE_CA_FILE", "/missing", "/missing: No such file or directory"),
        ("INGEST_RATE_LIMIT_STORE_PASSWORD_FILE", "/", "/: Is a directory"),
        ("INGEST_CLIENTS_FILE", "/missing", "there is no file /missing"),
        ("INGEST_GUNICORN_CONFIG", "/missing", "there is no file /missing"),
        ("INGEST_HOST", "256.1.1.1", "256.1.1.1:8080 can't be listened on: Name or service not known"),
        ("INGEST_HOST", "192.0.2.1", "192.0.2.1:8080 can't be listened on: Cannot assign requested address"),
        ("INGEST_HOST", "a..b", "a..b is no host"),
        ("INGEST_PORT", "99999", "Expected `int` <= 65535"),
        ("INGEST_OPERATIONS_PORT", "-1", "Expected `int` >= 0"),
        ("INGEST_BOOTSTRAP_SERVERS", "kafka:99999", "must be host:port, several comma-separated, with ports from 1"),
    ],
)
def test_the_ingress_looks_at_its_settings_before_it_serves(
    name: str, text: str, says: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is a person to read it; a worker process would end over it again and again."""
    monkeypatch.setenv("INGEST_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("INGEST_SCHEMA_REGISTRY_URL", "https://127.0.0.1:9")
    monkeypatch.setenv("INGEST_RATE_LIMIT_STORE_URL", "rediss://127.0.0.1:9")
    monkeypatch.setenv(name, text)

    assert refused("ingest").startswith(f"{name}: {says}")
