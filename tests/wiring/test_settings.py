"""Settings: precedence, and refusal of everything wrong at once."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

import pytest

from taskflow.ports.limiter import Rate
from taskflow.wiring.example import example
from taskflow.wiring.options import OPTIONS
from taskflow.wiring.reference import reference
from taskflow.wiring.settings import Settings, SettingsError, load

ROOT = Path(__file__).parents[2]


def problems(
    mode: Literal["dev", "run"] = "run",
    flags: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    config: Path | None = None,
) -> list[str]:
    """What is told of settings that cannot work."""
    with pytest.raises(SettingsError) as caught:
        load(mode, flags or {}, environ or {}, config)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def of_flags(**flags: Any) -> Settings:
    """The settings of flags, written with `__` for the dot."""
    return load("run", {key.replace("__", "."): value for key, value in flags.items()}, {}, None)


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults(tmp_path: Path) -> None:
    """Each source is named where its value is shown."""
    file = tmp_path / "taskflow.toml"
    file.write_text('namespace = "file"\n[api]\nport = 1\n[consumer]\nslots = 7\n')
    settings = load(
        "run", {"api.port": 3, "api.host": None}, {"TASKFLOW_API_PORT": "2", "TASKFLOW_NAMESPACE": "env"}, file
    )
    assert (settings["api.port"], settings["namespace"], settings["consumer.slots"]) == (3, "env", 7)
    sources = {key: source for key, _, source in settings.shown()}
    assert sources["api.port"] == "flag"
    assert sources["namespace"] == "environment TASKFLOW_NAMESPACE"
    assert sources["consumer.slots"] == str(file)
    assert sources["api.host"] == "default"
    assert sources == settings.sources


def test_every_problem_is_told_at_once_with_the_nearest_right_name(tmp_path: Path) -> None:
    """Wrong names and values of every source, and what cannot work together, in one go."""
    file = tmp_path / "taskflow.toml"
    file.write_text('nmespace = "x"\n[consumer]\nslotz = 1\nlease = "soon"\n[api]\nport = 99999\n')
    told = problems(
        flags={"roles": "api", "api.hots": "x"},
        environ={"TASKFLOW_API_PROT": "1", "TASKFLOW_API_HOST": "0.0.0.0"},
        config=file,
    )
    for words in (
        "there is no setting 'nmespace'; did you mean namespace?",
        "there is no setting 'consumer.slotz'; did you mean consumer.slots?",
        f"consumer.lease ({file}): 'soon' is no duration",
        f"api.port ({file}): 99999 must be a whole number from 0 to 65,535",
        "there is no setting TASKFLOW_API_PROT; did you mean TASKFLOW_API_PORT?",
        "there is no setting 'api.hots'; did you mean api.host?",
        "broker.url is memory://",
        "cache.url is memory://",
        "events.url is memory://",
        "api.host '0.0.0.0' can be reached from other machines",
    ):
        assert len([line for line in told if words in line]) == 1, (words, told)
    assert len(told) == 10


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"roles": "api,consumer"}, "broker.url is memory://"),
        ({"roles": "api,consumer"}, "without the scheduler"),
        *(
            ({"monitor.address": text}, "use such as '127.0.0.1:9100'")
            for text in ("9100", ":9100", "host:", "h:65536", "h:x")
        ),
        ({"roles": "cook"}, "use some of api, consumer, scheduler"),
        ({"roles": ""}, "use some of api, consumer, scheduler"),
        ({"api.host": "0.0.0.0"}, "no api.keys are set"),
        ({"api.host": "::"}, "no api.keys are set"),
        ({"api.host": "example.org"}, "no api.keys are set"),
        ({"store.url": "mysql://x"}, "no plug-in serves 'mysql' as store; installed: postgresql:, sqlite:"),
        ({"broker.url": "mqtt://u:hunter2@h"}, "no plug-in serves 'mqtt' as broker; installed: amqp:, amqps:, memory:"),
        ({"broker.url": "memory"}, "no plug-in serves a URL without a scheme as broker"),
        ({"store.url": "sqlite:///"}, "store.url: 'sqlite:///' is no SQLite URL"),
        ({"artifacts.url": "file://u:hunter2@host/x"}, "artifacts.url: 'file://***@host/x' is no directory's URL"),
        ({"consumer.lease": "0.5"}, "must be from 1 to 3600 seconds"),
        ({"consumer.slots": 0}, "must be a whole number from 1 to 100,000"),
        ({"consumer.slots": True}, "True must be a whole number"),
        ({"consumer.slots": "1e3"}, "'1e3' must be a whole number"),
        ({"consumer.queues": "a b"}, "consumer.queues"),
        ({"api.rate_limit": "fast"}, "use such as '100/second'"),
        ({"api.rate_limit": "0/second"}, "'none' switches it off"),
        ({"api.rate_limit": "5/year"}, "use such as '100/second'"),
        ({"api.trusted_proxies": "10.0.0.0/33"}, "10.0.0.0/33"),
        ({"api.auth": "maybe"}, "use one of keys, off"),
        ({"retention.finished": "0"}, "must be from 60"),
        ({"namespace": "a b"}, "namespace (flag)"),
        ({"namespace": ".."}, "namespace (flag): '..' begins with a dot"),
        ({"namespace": "."}, "begins with a dot"),
        ({"namespace": ".hidden"}, "begins with a dot"),
        ({"namespace": "a/b"}, "namespace (flag)"),
        ({"namespace": "amq"}, "RabbitMQ keeps names"),
        ({"namespace": "amq.x"}, "RabbitMQ keeps names"),
        ({"store.url": "sqlite:///:memory:"}, "store.url: 'sqlite:///:memory:' is a database in memory"),
        ({"data_dir": "what?"}, "a question mark"),
        ({"api.keys": "hunter2"}, "at least 16 characters"),
        ({"api.keys": "hunter2 hunter2 hunter2"}, "without blanks"),
        ({"api.keys": "k" * 16, "api.auth": "off"}, "drop one of them"),
        ({"api.keys_file": "/nowhere/keys"}, "'/nowhere/keys' cannot be read"),
    ],
)
def test_what_cannot_work_is_refused(flags: dict[str, Any], told: str) -> None:
    """With the setting and what to do, and without a secret."""
    lines = problems(flags=flags)
    assert told in "\n".join(lines)
    assert "hunter2" not in "\n".join(lines)


@pytest.mark.parametrize("namespace", ["a", "Team-1_x", "eu.prod", "a..b", "amqx", "a:b", "0"])
def test_a_namespace_is_one_segment_of_a_path(namespace: str) -> None:
    """With a dot inside, too."""
    assert of_flags(namespace=namespace)["namespace"] == namespace


def test_a_file_that_cannot_be_read_is_a_problem_like_any_other(tmp_path: Path) -> None:
    """Missing, no TOML, no UTF-8."""
    assert "cannot be read" in problems(config=tmp_path / "missing.toml")[0]
    (tmp_path / "a.toml").write_text("= 1")
    assert "cannot be read" in problems(config=tmp_path / "a.toml")[0]
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in problems(config=tmp_path / "b.toml")[0]


@pytest.mark.parametrize("text", ["api = 1", "[api.host]\nx = 1", "[[api]]\nport = 1", "[other]\nx = 1"])
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    """Never silently left out."""
    file = tmp_path / "taskflow.toml"
    file.write_text(text)
    assert len(problems(config=file)) == 1


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    """Neither keys nor passwords in URLs."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("hunter2-hunter2-hunter2\nhunter2-of-another\n")
    other.write_text("hunter2-for-the-store\n")
    settings = load(
        "run",
        {},
        {
            "TASKFLOW_API_KEYS_FILE": str(one),
            "TASKFLOW_ARTIFACTS_SECRET_KEY_FILE": str(other),
            "TASKFLOW_ARTIFACTS_ACCESS_KEY": "who",
        },
        None,
    )
    assert settings["api.keys"] == ("hunter2-hunter2-hunter2", "hunter2-of-another")
    assert settings["artifacts.secret_key"] == "hunter2-for-the-store"
    assert settings.sources["artifacts.secret_key"] == "environment TASKFLOW_ARTIFACTS_SECRET_KEY_FILE"
    assert "hunter2" not in str(settings.shown())


def test_keys_of_a_file_are_added_to_those_that_are_named(tmp_path: Path) -> None:
    """So that keys can be changed one by one."""
    file = tmp_path / "keys"
    file.write_text("b" * 16)
    assert of_flags(api__keys="a" * 16, api__keys_file=str(file))["api.keys"] == ("a" * 16, "b" * 16)


def test_a_secret_is_named_once(tmp_path: Path) -> None:
    """By value or by file."""
    environ = {"TASKFLOW_BROKER_URL": "memory://", "TASKFLOW_BROKER_URL_FILE": str(tmp_path / "x")}
    told = problems(environ=environ)
    assert "TASKFLOW_BROKER_URL_FILE and TASKFLOW_BROKER_URL are both set" in told[0]
    assert "there is no setting TASKFLOW_API_PORT_FILE" in problems(environ={"TASKFLOW_API_PORT_FILE": "x"})[0]


def test_names_reserved_for_tests_and_clients_are_let_through() -> None:
    """They are no settings; names that only begin like them are refused."""
    names = ("TASKFLOW_TEST_X", "TASKFLOW_URL", "TASKFLOW_API_KEY", "TASKFLOW_CONFIG", "TASKFLOWX")
    load("run", {}, dict.fromkeys(names, "1"), None)
    assert len(problems(environ={"TASKFLOW_URLS": "1", "TASKFLOW_API_KEYX": "1"})) == 2


def test_dev_has_its_own_defaults() -> None:
    """No rate limit, a short stop, the demo tasks, and it migrates."""
    settings = load("dev", {}, {}, None)
    assert settings["api.rate_limit"] is None
    assert settings["consumer.graceful"] == 2
    assert settings["tasks.modules"] == ("taskflow.demo",)
    assert settings.migrate
    other = load("run", {}, {}, None)
    assert other["api.rate_limit"] == Rate(100, 1.0, 200)
    assert other["consumer.graceful"] == 25
    assert other["tasks.modules"] == ()
    assert not other.migrate


def test_dev_has_the_demo_beside_other_tasks() -> None:
    """Once, whoever names it."""
    assert load("dev", {"tasks.modules": "mine"}, {}, None)["tasks.modules"] == ("taskflow.demo", "mine")
    named = load("dev", {"tasks.modules": "mine,taskflow.demo"}, {}, None)
    assert named["tasks.modules"] == ("mine", "taskflow.demo")


def test_a_broken_module_list_in_dev_is_one_problem(tmp_path: Path) -> None:
    """And no crash of the reader."""
    file = tmp_path / "taskflow.toml"
    file.write_text("[tasks]\nmodules = 3\n")
    assert problems("dev", config=file) == [f"tasks.modules ({file}): 3 is no list of texts"]


def test_urls_are_placed_in_the_data_directory(tmp_path: Path) -> None:
    """Absolute, so that a later change of directory changes nothing; each kind of URL in its own writing."""
    settings = of_flags(data_dir=str(tmp_path / "a b"))
    assert settings["store.url"] == f"sqlite:///{tmp_path}/a b/taskflow.db"
    assert settings["artifacts.url"] == f"file://{tmp_path}/a%20b/objects"
    relative = of_flags(data_dir="here", store__url="sqlite:///{data}/other.db")
    assert relative["store.url"] == f"sqlite:///{Path('here').absolute()}/other.db"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/second", Rate(100, 1.0, 200)),
        ("600/minute burst 50", Rate(600, 60.0, 50)),
        ("1/hour", Rate(1, 3_600.0, 2)),
        ("none", None),
    ],
)
def test_rates(text: str, rate: Rate | None) -> None:
    """The burst is twice the limit unless it is said."""
    assert of_flags(api__rate_limit=text)["api.rate_limit"] == rate


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9100", ("127.0.0.1", 9100)), ("[::1]:0", ("::1", 0)), ("host:65535", ("host", 65_535)), ("", None)],
)
def test_addresses(text: str, address: tuple[str, int] | None) -> None:
    """A host and a port, or nothing."""
    assert of_flags(monitor__address=text)["monitor.address"] == address


def test_values_are_read_once_and_typed(tmp_path: Path) -> None:
    """Whether they were texts or TOML."""
    file = tmp_path / "taskflow.toml"
    file.write_text(
        'roles = ["scheduler", "consumer", "api"]\n[retention]\nfinished = 86400\n[consumer]\nqueues = ["a"]'
    )
    settings = load("run", {"consumer.graceful": "1m"}, {"TASKFLOW_CONSUMER_LEASE": "1h"}, file)
    assert settings["roles"] == ("api", "consumer", "scheduler")
    assert (settings["retention.finished"], settings["consumer.graceful"], settings.lease.length) == (86_400, 60, 3_600)
    assert settings["consumer.queues"] == ("a",)
    assert settings["consumer.processes"] == os.cpu_count()


@pytest.mark.parametrize("length", [1, 4, 20, 30, 3_600])
def test_what_derives_from_the_lease_fits_together(length: int) -> None:
    """Three beats fit before the fence, and the fence comes before the end."""
    settings = of_flags(consumer__lease=length)
    lease = settings.lease
    assert lease.beat == settings.sweep == min(5, length / 4)
    assert lease.beat * 3 <= lease.fence == lease.length - lease.beat


def test_the_shipped_file_shows_every_setting() -> None:
    """It is what the table says, and it is valid as it stands and with every line uncommented."""
    text = (ROOT / "taskflow.toml").read_text()
    assert text == example()
    assert tomllib.loads(text) == {section: {} for section in tomllib.loads(text)}
    lines = [line.removeprefix("# ") if " = " in line and line.startswith("# ") else line for line in text.splitlines()]
    document = tomllib.loads("\n".join(lines))
    flat = {
        f"{key}.{name}" if isinstance(value, dict) else key
        for key, value in document.items()
        for name in (value if isinstance(value, dict) else [key])
    }
    assert flat == set(OPTIONS)


def test_the_page_about_settings_is_what_they_are() -> None:
    """Made of them: `python -m taskflow.wiring.reference > docs/configuration.md`."""
    assert (ROOT / "docs/configuration.md").read_text() == reference()
    assert all(f"`{option.env}`" in reference() for option in OPTIONS.values())


def test_the_shipped_file_says_the_defaults(tmp_path: Path) -> None:
    """Uncommented, it changes nothing."""
    lines = [line.removeprefix("# ") if " = " in line else line for line in example().splitlines()]
    file = tmp_path / "taskflow.toml"
    file.write_text("\n".join(lines))
    assert load("run", {}, {}, file).values == load("run", {}, {}, None).values
