"""The page on sampling is true: its configuration loads, its options and metrics exist."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from plugins.sampling import Sampling
from plugins.sampling.feedback import THUMBS
from plugins.sampling.options import Tune
from proxy.startup import load
from proxy.testing import plugin_test
from tests.support.raw import admin

PAGE = (Path(__file__).parents[2] / "docs" / "sampling.md").read_text()
(TOML,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_configuration_loads(tmp_path):
    (tmp_path / "dragoman.toml").write_text(TOML)
    (chosen,) = load(
        tmp_path / "dragoman.toml", {"--upstream": "http://127.0.0.1:9/v1"}, {}
    ).plugins
    assert chosen.plugin is Sampling


def test_the_options_that_it_tells_are_all_there_are_with_their_defaults():
    told = dict(re.findall(r"^\| `(\w+)` \| ([\w.,]*) ?\|", PAGE, re.MULTILINE))
    assert told.keys() == Tune.model_fields.keys() - {"override_client"}
    assert "tune.override_client" in PAGE
    for name, default in told.items():
        if default:
            shown = msgspec.json.decode(default.replace(",", ""))
            assert shown == Tune.model_fields[name].default


async def test_what_it_shows_is_what_clients_and_operators_get():
    feedback, shown = map(
        msgspec.json.decode, re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    )
    async with plugin_test(TOML) as test:
        await test.ask("Some SQL, please")
        seen = (await admin(test.proxy, "/admin/sampling")).json
        metrics = (await admin(test.proxy, "/metrics")).body.decode()
    assert seen.keys() == shown.keys()
    (scene,), (told,) = seen["scenes"].values(), shown["scenes"].values()
    assert scene.keys() == told.keys()
    assert scene["temperatures"][0].keys() == told["temperatures"][0].keys()
    assert set(THUMBS) == {"up", "down"}
    assert feedback["score"] == THUMBS["up"]
    for name in re.findall(r"`(dragoman_\w+)_total", PAGE):
        assert f"# TYPE {name}_total counter" in metrics or f"# TYPE {name} counter" in metrics
