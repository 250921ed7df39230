"""The benchmark works from end to end, sees what is wrong, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark reads /proc", allow_module_level=True)

from benchmarks import bodies, machine, report
from benchmarks.load import Load, unchunked
from benchmarks.measures import as_sent
from benchmarks.targets import OURS
from benchmarks.upstream import Upstream
from proxy.tokens import Tokenizer

ROOT = Path(__file__).parents[2]
QUICK = ["-m", "benchmarks", "--quick", "--only", "small"]


def test_a_quick_run_compares_both_proxies(tmp_path):
    done = subprocess.run(
        [sys.executable, *QUICK, "--targets", "direct,bare,ours", "--results", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = msgspec.json.decode((tmp_path / "results.json").read_bytes())
    assert found["wrong"] == {}
    assert {row["target"] for row in found["rows"]} == {"direct", "bare", "ours"}
    ratios = report.Results(found["rows"]).ratios("small", OURS)
    assert len(ratios) == 2  # there and back
    assert min(ratios) > 0
    text = (tmp_path / "results.md").read_text()
    assert text.strip() == done.stdout.strip()
    assert "none was wrong" in text
    assert "| CPU, small body, no plugins | ≤ 1.40x |" in text


def interrupted(run: subprocess.Popen[bytes]) -> bytes:
    """Press Ctrl-C until it ends, as people do; what it says on stderr."""
    for _ in range(6):
        run.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return run.communicate(timeout=10)[1]
    run.send_signal(signal.SIGABRT)  # it tells where it is
    return run.communicate()[1]


def test_an_interrupted_run_leaves_no_process():
    endless = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "benchmarks",
        "--rounds",
        "1000",
        "--only",
        "small",
    ]
    run = subprocess.Popen(endless, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while len(family := machine.family(run.pid)) < 3:
        assert run.poll() is None, run.stderr and run.stderr.read()
        time.sleep(0.02)
    said = interrupted(run)
    assert run.returncode == 1, said.decode()
    assert said.endswith(b"interrupted\n")
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


async def test_prompts_have_the_tokens_that_they_say():
    tokenizer = Tokenizer()
    for prompt in (bodies.SMALL, bodies.MEDIUM, bodies.LARGE):
        assert (await tokenizer.count(prompt.body())).tokens == prompt.tokens
    tokenizer.close()


@pytest.mark.parametrize("pause", [0.0, 0.001], ids=["at once", "paced"])
async def test_streams_come_as_they_were_sent(pause):
    body = bodies.SMALL.body(stream=True, stream_options={"include_usage": True})
    expected = b"".join(bodies.events(8, usage=True))
    async with Upstream() as upstream:
        upstream.answers(bodies.SMALL, chunks=8, pause=pause)
        load = Load(upstream.port, bodies.request(body), expected, connections=2, each=3)
        await load.run()
    assert not load.wrong
    assert len(load.latencies) == len(load.firsts) == 6
    assert [msgspec.json.decode(received) for received in upstream.received()] == [body]
    assert not upstream.open


async def test_what_differs_is_counted_and_shown():
    request = bodies.request(bodies.SMALL.body())
    async with Upstream() as upstream:
        load = Load(upstream.port, request, bodies.answer(bodies.LARGE), each=2)
        await load.run()
    ((what, times),) = load.wrong.items()
    assert what.startswith("differs from byte ")
    assert times == 2


async def test_an_upstream_that_is_not_there_is_no_result():
    load = Load(1, bodies.request(bodies.SMALL.body()), b"", each=1)
    await load.run()
    assert load.wrong == {"no answer: ConnectionRefusedError": 1}


def test_a_chunked_body_is_its_chunks():
    assert unchunked(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n") == b"hello!"


@pytest.mark.parametrize(
    "framed", [b"", b"x\r\n", b"1\r\nx\r\n", b"3\r\nx\r\n0\r\n\r\n", b"0\r\n\r\nx"]
)
def test_wrong_framing_is_no_body(framed):
    assert unchunked(framed) is None


def test_usage_that_ours_asks_for_is_no_other_request():
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert as_sent(asked, {"stream": True})
    assert not as_sent({**asked, "n": 2}, {"stream": True})
    assert not as_sent({"stream_options": {"include_usage": True}}, {})
