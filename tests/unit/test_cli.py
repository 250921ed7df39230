"""The command line does what its help says, and its exit codes can be relied on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.startup import UNGUARDED

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = '[upstream]\nbase_url = "http://127.0.0.1:1/v1"\n'
ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("DRAGOMAN_")}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**ENVIRON, "PYTHONPATH": str(ROOT), **environ},
    )


def serve(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRON, "PYTHONPATH": str(ROOT), **environ},
    )


def stopped(server: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Wait for its last start-up line, send SIGTERM; its exit code and what it said."""
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line.rstrip())
        if line.startswith("admin "):
            break
    server.send_signal(signal.SIGTERM)
    said += server.communicate(timeout=30)[1].splitlines()
    return server.returncode, said


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# ---- serve


def _takes_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup


@pytest.mark.parametrize("workers", [1, 2])
def test_it_ends_with_the_terminal_that_it_was_started_from(workers: int) -> None:
    store = '[store]\nurl = "redis://127.0.0.1:1"\n'
    ports = f"[server]\nport = 0\nadmin_port = 0\nworkers = {workers}\n"
    Path("dragoman.toml").write_text(CONFIG + ports + store)
    ours, theirs = os.openpty()
    server = subprocess.Popen(
        [sys.executable, "-m", "proxy"],
        stdin=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_takes_the_terminal,  # noqa: PLW1509  # two calls
        env={**ENVIRON, "PYTHONPATH": str(ROOT)},
    )
    os.close(theirs)
    with server:
        assert server.stderr is not None
        assert any(line.startswith("admin ") for line in server.stderr)
        server.send_signal(signal.SIGHUP)
        assert any("nothing has changed" in line for line in server.stderr)
        os.close(ours)
        assert server.wait(30) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--upstream", "http://127.0.0.1:1/v1", "--port", "0", "--admin-port", "0"),
        ("serve", "-c", "x.toml", "--port=0"),
        ("--config", "x.toml", "--port", "0", "--log-level", "warning"),
    ],
)
def test_it_serves_with_or_without_the_verb_until_it_is_told_to_stop(
    arguments: tuple[str, ...],
) -> None:
    Path("x.toml").write_text(CONFIG + "[server]\nadmin_port = 0\ndrain = 0")
    code, said = stopped(serve(*arguments))
    assert code == 0
    address = r"http://127\.0\.0\.1:[1-9]\d+"
    assert re.fullmatch(rf"dragoman \S+  {address}/v1 -> http://127\.0\.0\.1:1/v1", said[0])
    assert said[1] == "traces off"
    assert re.fullmatch(rf"admin {address}/healthz /readyz /metrics", said[2])


def test_dragoman_alone_serves_the_file_in_the_working_folder() -> None:
    Path("dragoman.toml").write_text(CONFIG + "[server]\nport = 0\nadmin_port = 0\ndrain = 0")
    code, said = stopped(serve())
    assert code == 0
    assert said[0].endswith("-> http://127.0.0.1:1/v1")


def test_a_port_in_use_is_exit_code_2_and_one_line(taken_port: int) -> None:
    done = run("--upstream", "http://127.0.0.1:1/v1", "--port", str(taken_port))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"127.0.0.1:{taken_port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_an_upstream_one_line_shows_both_ways() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--upstream https://" in done.stderr
    assert "base_url = " in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--prot", "1"), ("srve",), ("check", "a", "b"), ("keys",), ("--por", "1")]
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: dragoman")


# ---- check


def test_check_prints_the_onion() -> None:
    Path("mine.py").write_text(
        "from proxy.plugin import Plugin\n"
        "class Guard(Plugin):\n"
        "    enforces = True\n"
        "    @classmethod\n"
        "    def summary(cls, config): return 'looks closely'\n"
        "class Plain(Plugin): on_error = 'open'\n"
    )
    Path("x.toml").write_text(
        '[[plugins]]\nuse = "mine.py:Guard"\nname = "guard"\n'
        '[[plugins]]\nuse = "mine.py:Plain"\nname = "plain-one"\n'
        '[[plugins]]\nuse = "mine.py:Guard"\nname = "trial"\nmode = "shadow"\n'
        '[[plugins]]\nuse = "mine.py:Guard"\nname = "off"\nenabled = false\n'
        '[telemetry]\nendpoint = "http://user:pass@127.0.0.1:4318/?a=b"\ncapture_content = true\n'
        '[server]\nhost = "::1"\n' + CONFIG
    )
    done = run("check", "x.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "x.toml is valid",
        f"dragoman {version('dragoman')}  http://[::1]:8080/v1 -> http://127.0.0.1:1/v1",
        "  1 guard      looks closely  closed on error",
        "  2 plain-one                 open on error",
        "  3 trial      looks closely  in shadow",
        "traces to http://127.0.0.1:4318, content on",
        "admin http://127.0.0.1:8081/healthz /readyz /metrics",
        f'guard cannot see {UNGUARDED}: server.unguarded = "pass"',
    ]


def test_check_prints_all_mistakes_and_nothing_else() -> None:
    Path("x.toml").write_text("[server]\nprot = 1\nport = 70_000\n" + CONFIG)
    done = run("check", "x.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "x.toml:2: unknown key 'prot'; did you mean 'port'?",
        "x.toml:3: server.port: should be at most 65535, not 70000",
    ]


def test_check_without_a_file_checks_the_one_that_serve_would_take() -> None:
    Path("named.toml").write_text(CONFIG)
    done = run("check", DRAGOMAN_CONFIG="named.toml")
    assert done.stdout.startswith("named.toml is valid\n")
    done = run("check", DRAGOMAN_UPSTREAM__BASE_URL="http://127.0.0.1:1/v1")
    assert done.stdout.startswith("the configuration is valid\n")
    done = run("check", DRAGOMAN_CONFIG="missing.toml")
    assert (done.returncode, done.stderr) == (2, "missing.toml: no such file or directory\n")


def test_help_and_check_import_nothing_heavy() -> None:
    Path("x.toml").write_text(CONFIG + '[[plugins]]\nuse = "sampling"\n')
    code = (
        "import sys; from proxy.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('imported', *sys.modules)"
    )
    heavy = {"--help": {"pydantic", "asyncio"}, "check": {"openai", "opentelemetry", "tiktoken"}}
    for arguments in (["--help"], ["check", "x.toml"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**ENVIRON, "PYTHONPATH": str(ROOT)},
        )
        imported = done.stdout.rpartition("imported ")[2].split()
        assert "proxy.cli" in imported
        assert not heavy[arguments[0]] & set(imported)


# ---- the other verbs


def test_plugins_lists_what_is_installed_and_where_it_stands() -> None:
    columns = r"  sampling +dragoman \S+  Defaults, limits and overrides .*"
    assert re.search(rf"(?m)^-{columns}$", run("plugins").stdout)
    Path("dragoman.toml").write_text('[[plugins]]\nuse = "sampling"\n')
    done = run("plugins")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"(?m)^1{columns}$", done.stdout)


def test_schema_knows_every_section_and_the_options_of_plugins() -> None:
    done = run("schema")
    assert (done.returncode, done.stderr) == (0, "")
    schema = json.loads(done.stdout)  # it is ours
    assert set(schema["properties"]) == {
        "keys",
        "plugins",
        "server",
        "store",
        "telemetry",
        "tokens",
        "upstream",
    }
    assert schema["additionalProperties"] is False
    assert {"anyOf": [{"type": "number"}, {"type": "string"}]}.items() <= (
        schema["$defs"]["Server"]["properties"]["drain"].items()
    )
    tables = {table["title"]: table for table in schema["properties"]["plugins"]["items"]["anyOf"]}
    sampling = tables["sampling"]
    assert sampling["properties"]["use"] == {"const": "sampling"}
    assert sampling["properties"]["on_error"]["default"] == "open"
    assert {"scenes", "timeout", "match"} <= set(sampling["properties"])
    assert sampling["additionalProperties"] is False
    assert "additionalProperties" not in tables["a plugin in a file"]


def test_a_new_key_is_printed_once_with_the_table_that_holds_its_hash() -> None:
    more = ("--models", "gpt-4o*", "o3", "--groups", "free", "--expires", "9999-12-31")
    done = run("keys", "new", "--name", "alice", *more)
    (key,) = re.findall(r"dgm-\S+", done.stdout)
    assert len(key) == len("dgm-") + 43  # 32 bytes, in base64
    (table,) = tomllib.loads(done.stdout[done.stdout.index("[[keys]]") :])["keys"]
    assert table.pop("expires").year == 9999
    assert table == {
        "name": "alice",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "groups": ["free"],
        "models": ["gpt-4o*", "o3"],
    }
    assert key not in run("keys", "new").stdout
    Path("x.toml").write_text(CONFIG + f'api_key = "x"\n{done.stdout.split(chr(10) * 2)[-1]}')
    assert run("check", "-c", "x.toml").returncode == 0  # as the other verbs take it
    listed = run("keys", "list", "-c", "x.toml").stdout
    assert listed.splitlines()[1].split()[:2] == ["alice", f"{table['sha256'][:8]}..."]
    assert table["sha256"] not in listed


def test_the_name_of_a_key_is_checked() -> None:
    done = run("keys", "new", "--name", "two words")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--name: should be ")


def test_version_is_that_of_the_distribution() -> None:
    assert run("--version").stdout == f"dragoman {version('dragoman')}\n"


# ---- packages by the same names


def test_another_package_named_plugins_is_a_clear_error() -> None:
    Path("plugins").mkdir()
    Path("plugins/__init__.py").touch()
    done = run("check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"the package `plugins` should be {ROOT / 'plugins'}, "
        f"but {Path('plugins').resolve()} is imported\n"
    )


def test_the_distribution_proxy_py_is_a_clear_error(tmp_path: Path) -> None:
    info = tmp_path / "site" / "proxy_py-2.4.10.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: proxy.py\nVersion: 2.4.10\n")
    done = run("--help", PYTHONPATH=f"{ROOT}{os.pathsep}{info.parent}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip uninstall proxy.py" in done.stderr
