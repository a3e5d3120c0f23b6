"""A run of the tests says which adapters it ran on, and cannot look green without them where that is asked for."""

from __future__ import annotations

import pytest

from tests.adapter_report import ADAPTERS, REQUIRE

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from tests.adapter_report import AdapterReport
from tests.figures import Figures, says

def pytest_configure(config):
    config.pluginmanager.register(AdapterReport(config))
    config.pluginmanager.register(Figures())

@pytest.fixture
def say(request):
    return says(request.node)
"""
EVERY = "\n".join(
    f"""
@pytest.mark.adapter("{name}")
def test_{name}():
    pass
"""
    for name in ADAPTERS
)
SKIPPED = """
@pytest.mark.adapter("redis")
def test_skipped():
    pytest.skip("no redis: it is not installed")
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A house with tests of every adapter, where servers are required."""
    monkeypatch.setenv(REQUIRE, "1")
    pytester.makeini("[pytest]\ntestpaths = tests\nmarkers = adapter: for each\n")
    pytester.makeconftest(CONFTEST)
    (pytester.path / "tests").mkdir()
    write(pytester, EVERY)
    return pytester


def write(run: pytest.Pytester, text: str) -> None:
    (run.path / "tests" / "test_it.py").write_text("import pytest\n" + text)


def test_a_line_for_each_adapter(run: pytest.Pytester) -> None:
    """With what ran and what was skipped; a test of two counts for both, and one that failed has run."""
    write(
        run,
        EVERY
        + SKIPPED
        + """
@pytest.mark.adapter("s3", "file")
def test_two():
    assert False

@pytest.mark.xfail(strict=True)
@pytest.mark.adapter("memory")
def test_expected():
    assert False

@pytest.fixture
def broken():
    raise OSError("broken")

@pytest.mark.adapter("sqlite")
def test_broken(broken):
    pass
""",
    )
    done = run.runpytest()
    done.stdout.fnmatch_lines(["s3 * 2 run", "sqlite * 2 run", "memory * 2 run", "file * 2 run"])
    done.stdout.fnmatch_lines(["redis * 1 run, 1 skipped"])


def test_all_of_them_are_enough(run: pytest.Pytester) -> None:
    """A full run, however it is asked for."""
    assert run.runpytest().ret == 0
    assert run.runpytest("tests").ret == 0


def test_several_processes_are_one_run(run: pytest.Pytester) -> None:
    """None of them ran tests of every adapter; together they did."""
    for number, name in enumerate(ADAPTERS):
        test = f'import pytest\n@pytest.mark.adapter("{name}")\ndef test_one(say): say("took", "{number} s")\n'
        (run.path / "tests" / f"test_{name}.py").write_text(test)
    write(run, "")
    done = run.runpytest("-n", "2", "--dist", "loadfile")
    assert done.ret == 0
    done.stdout.fnmatch_lines([f"{name} * 1 run" for name in ADAPTERS])
    done.stdout.fnmatch_lines(["test_redis.py::test_one", "  took: 2 s"])
    write(run, SKIPPED)
    done = run.runpytest("-n", "2", "--dist", "loadfile")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["redis * 1 run, 1 skipped"])


def test_a_skip_fails_the_run(run: pytest.Pytester) -> None:
    """Also a narrowed one: what was asked for did not run."""
    write(run, EVERY + SKIPPED)
    for arguments in ([], ["-k", "skipped"]):
        done = run.runpytest(*arguments)
        assert done.ret == 1
        done.stdout.fnmatch_lines([f"redis: tests were skipped, and {REQUIRE} forbids it"])


def test_a_skip_is_fine_where_nobody_requires_servers(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine, say."""
    monkeypatch.delenv(REQUIRE)
    write(run, SKIPPED)
    assert run.runpytest().ret == 0


def test_an_adapter_that_no_test_ran_on_fails_a_full_run(run: pytest.Pytester) -> None:
    """Somebody may have lost its tests."""
    write(run, EVERY.replace('"rabbitmq"', '"redis"'))
    for arguments in ([], ["tests"]):
        done = run.runpytest(*arguments)
        assert done.ret == 1
        done.stdout.fnmatch_lines([f"rabbitmq: no test ran, and {REQUIRE} wants some"])


@pytest.mark.parametrize("narrowed", [["-k", "redis"], ["-m", "adapter"], ["tests/test_it.py"], ["--maxfail=3"]])
def test_a_narrowed_run_need_not_be_of_all(run: pytest.Pytester, narrowed: list[str]) -> None:
    """It says how little it was."""
    write(run, EVERY.replace('"rabbitmq"', '"redis"'))
    assert run.runpytest(*narrowed).ret == 0


def test_a_module_that_is_skipped_is_no_run(run: pytest.Pytester) -> None:
    """A server that is asked for at the top of a module skips all of it."""
    write(run, EVERY.replace('"redis"', '"s3"'))
    (run.path / "tests" / "test_other.py").write_text(
        'import pytest\npytestmark = pytest.mark.adapter("redis")\npytest.skip("no redis", allow_module_level=True)\n'
    )
    done = run.runpytest()
    assert done.ret == 1
    done.stdout.fnmatch_lines([f"redis: no test ran, and {REQUIRE} wants some"])


def test_a_name_that_no_adapter_has_is_refused(run: pytest.Pytester) -> None:
    """It would count for nothing."""
    write(run, EVERY.replace('"redis"', '"reddis"'))
    done = run.runpytest()
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*there is no adapter reddis*"])
