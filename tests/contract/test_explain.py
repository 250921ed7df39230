"""`dragoman explain` runs the real chain on a request, says what each plugin did, sends nothing."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from proxy import cli

ROOT = Path(__file__).parents[2]
ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("DRAGOMAN_")}
ENVIRON |= {"PYTHONPATH": str(ROOT)}
ENVIRON.pop("NO_COLOR", None)

CONFIG = '[upstream]\nbase_url = "http://127.0.0.1:1/v1"\napi_key = "sk-upstream"\n'

PLUGINS = {
    "Polite": """
        *earlier, newest = request.messages
        newest = {**newest, "content": f"{newest['content']}, please"}
        note(courtesy=1)
        return await call_next(request.replace(messages=[*earlier, newest]))
    """,
    "Idle": "return await call_next(request)",
    "Loud": "return (await call_next(request)).map_text(str.upper)",
    "Faq": 'return answer(request, "We open at nine.")',
    "Guard": 'raise ContentRejected("Not here.", param="messages")',
    "Broken": "raise KeyError('sk-inside')",
    "Seeded": "return await call_next(request.replace(seed=7).without('temperature'))",
    "Scene": "return await call_next(request.replace(scene=request.options, user=request.session))",
    "Caller": "return await call_next(request.replace(user=request.caller.name))",
    "Unsendable": "return await call_next(request.replace(messages=[*request.messages, object()]))",
    "Later": """
        async def work():
            raise AssertionError("it was to be dropped")
        self.services.defer(work(), name="summary")
        print("a plugin prints")
        return await call_next(request)
    """,
    "Keeps": """
        await self.services.store.put("key", b"value", ttl=60)
        return await call_next(request.replace(user=(await self.services.store.get("key")).decode()))
    """,
    "Retries": """
        await call_next(request)
        return await call_next(request)
    """,
}

REQUEST = {
    "model": "gpt-4o-mini",
    "temperature": 1,
    "messages": [
        {"role": "system", "content": "You are a baker."},
        {"role": "user", "content": "Say hello"},
    ],
}


@pytest.fixture(autouse=True)
def _a_folder_with_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "from proxy.plugin import *\n"
    for name, body in PLUGINS.items():
        code += f"class {name}(Plugin):\n    async def handle(self, request, call_next):\n"
        code += indent(dedent(body).strip(), " " * 8) + "\n"
    Path("mine.py").write_text(code)
    Path("request.json").write_text(json.dumps(REQUEST))


def configure(*tables: str, more: str = "") -> None:
    """The plugins, outermost first; what stands behind a name are the other keys of its table."""
    text = CONFIG + more
    for table in tables:
        name, _, keys = table.partition(" ")
        text += f'[[plugins]]\nuse = "./mine.py:{name}"\nname = "{name.lower()}"\n{keys}\n'
    Path("dragoman.toml").write_text(text)


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "explain", *arguments],
        env=ENVIRON,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def here(capsys):
    """The same in this process, which is ten times as fast: exit code, stdout, stderr."""

    def run_here(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["explain", *(arguments or ("request.json",))])
        return (code, *capsys.readouterr())

    return run_here


@pytest.fixture
def told(here):
    """What the document says."""

    def told_here(*arguments: str) -> dict[str, Any]:
        code, out, err = here("--json", *(arguments or ("request.json",)))
        assert code == 0, err
        return json.loads(out)

    return told_here


# ---- what it says


def test_each_plugin_is_told_of_in_its_order():
    configure("Polite", "Idle", "Seeded", "Loud", 'Faq match.models = ["o3"]')
    done = run("request.json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "gpt-4o-mini: 2 messages, 18 tokens, $0.00000270 (openai gpt-4o-mini)",
        "",
        "1  polite: changed messages",
        "     system    You are a baker.",
        "   ~ user      Say hello{+, please+}",
        "     tokens    18 -> 20 (+11 %), $0.00000270 -> $0.00000300",
        "     why       courtesy 1",
        "",
        "2  idle: did nothing",
        "",
        "3  seeded: changed temperature, seed",
        "   - temperature: 1",
        "   + seed: 7",
        "",
        "4  loud: left the request as it was; changes the answer",
        "",
        "5  faq: does not see such requests (match)",
        "",
        "To be sent: 2 messages, 20 tokens, $0.00000300 (openai gpt-4o-mini)",
        "     tokens    18 -> 20 (+11 %), $0.00000270 -> $0.00000300",
    ]


def test_the_document_is_all_there_is_on_stdout():
    configure("Polite", "Later", "Idle")
    done = run("--json", "-", stdin=json.dumps(REQUEST).encode())
    assert (done.returncode, done.stderr) == (0, b"a plugin prints\n")
    value = json.loads(done.stdout)
    assert (value["model"], value["result"], value["source"]) == ("gpt-4o-mini", "sent", "upstream")
    assert (value["received"]["tokens"], value["sent"]["tokens"]) == (18, 20)
    assert (value["answer"], value["error"]) == (None, None)
    polite, later, idle = value["plugins"]
    assert polite["outcome"] == "modify"
    assert polite["notes"] == {"courtesy": 1}
    assert [change["change"] for change in polite["messages"]] == ["kept", "changed"]
    assert polite["messages"][1]["after"]["content"] == "Say hello, please"
    assert (polite["before"]["tokens"], polite["after"]["tokens"]) == (18, 20)
    assert later["deferred"] == ["summary"]
    assert (idle["outcome"], idle["messages"], idle["fields"]) == ("pass", [], [])


def test_shadows_say_what_they_would_have_done_and_change_nothing(told):
    configure(
        'Seeded mode = "shadow"', 'Polite mode = "shadow"', 'Faq mode = "shadow"',
        'Guard mode = "shadow"', 'Broken mode = "shadow"', "Idle",
    )  # fmt: skip
    value = told()
    seeded, polite, faq, guard, broken, idle = value["plugins"]
    assert {each["mode"] for each in value["plugins"][:5]} == {"shadow"}
    assert [field["name"] for field in seeded["fields"]] == ["temperature", "seed"]
    assert polite["messages"][1]["change"] == "changed"
    assert polite["after"]["tokens"] == 20
    assert (faq["outcome"], faq["answer"]) == ("respond", "We open at nine.")
    assert (guard["outcome"], guard["error"]["status"]) == ("reject", 400)
    assert (broken["outcome"], broken["error"]["type"]) == ("error", "KeyError")
    assert (idle["mode"], idle["outcome"]) == ("apply", "pass")
    assert (value["result"], value["sent"]) == ("sent", value["received"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_plugin_that_answers_ends_it_and_outer_ones_change_the_answer(stream, told):
    configure("Loud", "Faq", "Idle", 'Seeded mode = "shadow"')
    Path("request.json").write_text(json.dumps({**REQUEST, "stream": stream}))
    value = told()
    assert (value["result"], value["source"], value["sent"]) == ("answered", "faq", None)
    assert value["answer"] == "WE OPEN AT NINE."
    loud, faq, idle, seeded = value["plugins"]
    assert loud["changes_answer"]
    assert (faq["outcome"], faq["answer"], faq["after"]) == ("respond", "We open at nine.", None)
    assert idle["outcome"] == seeded["outcome"] == "unreached"


def test_a_plugin_that_refuses_ends_it(told, here):
    configure("Polite", "Guard", "Idle")
    assert (
        "2  guard: refused\n     error     400 content_policy_violation: Not here.\n" in here()[1]
    )
    value = told()
    assert (value["result"], value["source"], value["sent"]) == ("refused", "guard", None)
    assert value["error"]["message"] == "Not here."
    assert [each["outcome"] for each in value["plugins"]] == ["modify", "reject", "unreached"]


def test_a_plugin_that_fails_does_what_its_table_says(told):
    configure('Broken on_error = "open"', "Polite")
    value = told()
    assert [each["outcome"] for each in value["plugins"]] == ["error", "modify"]
    assert value["result"] == "sent"
    configure("Broken", "Polite")
    done = run("request.json")
    assert done.returncode == 0
    assert b"1  broken: failed, and so does the request\n     error     KeyError\n" in done.stdout
    assert b"Refused: 503 plugin_unavailable" in done.stdout
    assert b"KeyError" in done.stderr  # the log
    assert b"sk-inside" not in done.stdout


def test_what_cannot_be_sent_is_the_fault_of_the_plugin_that_made_it(told):
    configure('Unsendable on_error = "open"', "Idle")
    value = told()
    assert [each["outcome"] for each in value["plugins"]] == ["error", "pass"]
    assert value["sent"] == value["received"]


def test_a_plugin_that_breaks_its_contract_is_told_how(told):
    configure('Retries on_error = "open"')
    (plugin,) = told()["plugins"]
    assert plugin["error"]["message"] == "call_next was called twice"


def test_headers_choose_scenes_and_sessions_and_callers(told, here):
    key = "dgm-key"
    headers = ("-H", "X-Dragoman-Scene: code", "-H", "x-dragoman-session: s1")
    configure("Scene")
    scene, user = told("request.json", *headers)["plugins"][0]["fields"]
    assert scene["after"] == {"scene": "code", "session": "s1"}
    assert user["after"] == "s1"
    digest = hashlib.sha256(key.encode()).hexdigest()
    configure("Caller", more=f'[[keys]]\nname = "alice"\nsha256 = "{digest}"\n')
    (field,) = told("request.json", "-H", f"Authorization: Bearer {key}")["plugins"][0]["fields"]
    assert field["after"] == "alice"
    (field,) = told()["plugins"][0]["fields"]
    assert field["after"] is None
    table = f'[[keys]]\nname = "alice"\nsha256 = "{digest}"\nmodels = ["o3"]\n'
    configure("Caller", more=table)
    refused = told("request.json", "-H", f"Authorization: Bearer {key}")
    assert refused["error"]["code"] == "model_not_found"
    wrong = here("request.json", "-H", "Authorization: Bearer dgm-other")
    assert wrong == (2, "", "-H: Incorrect API key provided.\n")


def test_the_store_is_there_for_the_plugin_alone(told):
    configure("Keeps")
    assert told()["plugins"][0]["fields"] == [{"name": "user", "after": "value"}]


def test_an_unknown_model_has_no_price(here):
    configure("Polite")
    Path("request.json").write_text(json.dumps({**REQUEST, "model": "mine"}))
    assert re.match(r"mine: 2 messages, about \d+ tokens, unknown price\n", here()[1])


def test_nothing_is_configured(here):
    configure()
    lines = here()[1].splitlines()
    assert lines[2] == "To be sent: 2 messages, 18 tokens, $0.00000270 (openai gpt-4o-mini)"


# ---- colour


def on_a_terminal(*arguments: str, **environ: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "explain", "request.json", *arguments],
        env=ENVIRON | environ,
        stdout=theirs,
        stdin=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            said += part
        assert process.wait(60) == 0
    os.close(ours)
    return said.decode()


def test_a_terminal_gets_colours_unless_it_does_not_want_them(here):
    configure("Polite", "Seeded")
    coloured = on_a_terminal()
    assert "\033[32m, please\033[0m" in coloured
    assert "\033[31m   - temperature: 1\033[0m" in coloured
    plain = on_a_terminal("--no-color")
    assert "\033" not in plain
    assert "{+, please+}" in plain
    assert "\033" not in on_a_terminal(NO_COLOR="1")
    assert "\033" not in here()[1]


# ---- what it refuses


@pytest.mark.parametrize(
    ("arguments", "data", "line"),
    [
        (("missing.json",), b"", "missing.json: no such file or directory"),
        (("odd.json",), b"{", None),
        (("odd.json",), b"[]", "odd.json: The body must be a JSON object, not an array."),
        (("odd.json",), b"\xff", None),
        (("odd.json", "-c", "no.toml"), b"{}", "no.toml: no such file or directory"),
        (("odd.json", "-H", "sk-secret"), b"{}", "-H: should be a header, as in 'x-dragoman-scene: code'"),
        (("odd.json", "-H", "a b: c"), b"{}", None),
        (("odd.json", "-H", "a: b\nc: d"), b"{}", None),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_exit_code_2_and_one_line(here, arguments, data, line):
    configure("Idle")
    Path("odd.json").write_bytes(data)
    code, out, err = here(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert line is None or err == line + "\n"


def test_stdin_that_is_no_json_is_exit_code_2_and_one_line():
    configure("Idle")
    done = run("-", stdin=b"[]")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"stdin: The body must be a JSON object, not an array.\n"


def test_a_plugin_that_cannot_start_is_exit_code_2(here):
    Path("mine.py").write_text(
        "from proxy.plugin import Plugin\n"
        "class Dead(Plugin):\n"
        "    async def start(self): raise OSError('no disk')\n"
    )
    configure("Dead")
    assert here() == (2, "", "plugin dead cannot start: OSError: no disk\n")


def test_secrets_are_not_told(here):
    configure("Polite", "Scene")
    headers = ("-H", "Authorization: Bearer sk-client", "-H", "x-dragoman-scene: code")
    for form in ((), ("--json",)):
        code, out, err = here("request.json", *form, *headers)
        assert code == 0
        assert "sk-" not in out + err
