"""The functions' binaries, started as Lambda starts them, without a stack: what they say when they cannot do their work."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

import settings
from kills.backend import Backend
from lambda_process import FunctionFailed
from processes import Processes
from watch import tick_event

pytestmark = pytest.mark.kills


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    folder = settings.STATE / "test" / "binaries"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Processes() as processes:
        yield Backend(processes, folder)


def lines(backend: Backend, function: str) -> list[dict]:
    """What a function logged. Its standard error is in the same file: there Rust repeats why a main ended."""
    text = (backend.folder / f"{function}.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_mistyped_parameter_is_one_line_of_the_log(backend):
    changes = {"TABLE_NAME": "none", "FORGE_APP_PUBLIC_KEY": '{"keys":[{"kty":"OKP"}]'}
    with backend.start("add-service", {}, changes) as invocation, pytest.raises(FunctionFailed):
        invocation.answer()
    [line] = lines(backend, "add-service")
    assert (line["level"], line["message"]) == ("ERROR", "cannot start")
    assert "FORGE_APP_PUBLIC_KEY" in line["error"]


@pytest.mark.parametrize("function", ["register", "add-service"])
def test_without_a_key_of_the_app_nothing_starts_that_reads_handoffs(backend, function):
    (backend.folder / f"{function}.log").unlink(missing_ok=True)
    changes = {"TABLE_NAME": "none", "FORGE_APP_PUBLIC_KEY": ""}
    with backend.start(function, {}, changes) as invocation, pytest.raises(FunctionFailed):
        invocation.answer()
    [line] = lines(backend, function)
    assert (line["message"], line["error"]) == ("cannot start", "environment variable FORGE_APP_PUBLIC_KEY: is not set")


def test_no_function_waits_for_randomness(backend):
    """Whether .cargo/config.toml reached the C compiler: functions with these names test the processor's clock."""
    found = {path.name: b"jent_" in path.read_bytes() for path in backend.binaries.iterdir()}
    assert found and not any(found.values()), found


def test_a_round_that_comes_too_late_to_be_run_is_counted_as_late(backend):
    tick = tick_event(datetime.now(UTC) - timedelta(hours=1))
    backend.ask("check-services", tick, {"TABLE_NAME": "none", "METRICS_NAMESPACE": "test"})
    written = lines(backend, "check-services")
    assert [line["level"] for line in written if line.get("message") == "tick refused"] == ["ERROR"]
    [late] = [line["TickLateness"] for line in written if "TickLateness" in line]
    assert 3600 <= late < 3720
