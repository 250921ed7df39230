"""The sampling plugin: scenes, defaults, limits, overrides, and what models do not take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins.sampling import Sampling
from plugins.sampling.options import SamplingOptions
from plugins.sampling.scenes import SEARCHED, choose_scene, newest_user_text
from proxy.response import FullResponse
from tests.support.requests import chat_request


async def sent(request, **options):
    """The body that goes on, after a plugin with these options."""
    plugin = Sampling(SamplingOptions.model_validate(options), None)  # type: ignore[arg-type]
    passed_on = []

    async def call_next(changed):
        passed_on.append(changed)
        return FullResponse(changed.exchange, b"{}")

    await plugin.handle(request, call_next)
    return dict(passed_on[0].body)


# ---- defaults, limits, overrides


async def test_a_default_fills_in_what_the_client_left_out_and_nothing_else():
    options = {"defaults": {"temperature": 0.2, "seed": 7}}
    body = await sent(chat_request(temperature=0.9), **options)
    assert (body["temperature"], body["seed"]) == (0.9, 7)


async def test_null_is_nothing():
    assert (await sent(chat_request(seed=None), defaults={"seed": 7}))["seed"] == 7


@pytest.mark.parametrize(
    ("name", "value", "limit", "expected"),
    [
        ("temperature", 1.9, (0, 1), 1),
        ("temperature", 0.1, (0.5, 1), 0.5),
        ("temperature", 0.7, (0.5, 1), 0.7),
        ("top_p", 0.01, (0.1, 1), 0.1),
        ("n", 9, 2, 2),
        ("n", 0, 2, 1),
        ("max_tokens", 9_000, 1_000, 1_000),
        ("max_completion_tokens", 9_000, None, 9_000),
        ("stop", ["a", "b", "c"], 2, ["a", "b"]),
        ("stop", "a", 1, "a"),
        ("logit_bias", {"5": 100, "6": -100, "7": 1}, 10, {"5": 10, "6": -10, "7": 1}),
    ],
)
async def test_a_value_is_moved_to_the_nearest_one_allowed(name, value, limit, expected):
    body = await sent(chat_request(**{name: value}), limits={name: limit} if limit else {})
    assert body[name] == expected


async def test_a_limit_on_tokens_holds_for_those_who_send_none():
    assert (await sent(chat_request(), limits={"max_tokens": 100}))["max_tokens"] == 100


async def test_a_limit_on_tokens_holds_for_both_names():
    body = await sent(
        chat_request(max_tokens=500, max_completion_tokens=400), limits={"max_tokens": 100}
    )
    assert (body["max_tokens"], body["max_completion_tokens"]) == (100, 100)


async def test_an_override_wins_over_the_client_and_over_limits():
    body = await sent(
        chat_request(temperature=1, max_tokens=50),
        overrides={"temperature": 0, "max_tokens": 9},
        limits={"temperature": (0.5, 1), "max_tokens": 5},
    )
    assert (body["temperature"], body["max_tokens"]) == (0, 9)


async def test_an_override_of_biases_leaves_other_tokens_biases():
    body = await sent(
        chat_request(logit_bias={"1": 5, "2": 5}), overrides={"logit_bias": {"2": -100}}
    )
    assert body["logit_bias"] == {"1": 5, "2": -100}


@pytest.mark.parametrize("value", ["hot", True, [1], {"a": 1}])
async def test_what_is_no_value_is_left_to_the_upstreams_own_error(value):
    body = await sent(
        chat_request(temperature=value, max_tokens=value),
        limits={"temperature": (0, 1), "max_tokens": 5},
    )
    assert body["temperature"] == value
    assert body["max_tokens"] == value


async def test_with_no_rules_the_request_goes_on_as_it_came():
    request = chat_request(temperature=1, stop=["x"], logit_bias={"1": 5})
    assert await sent(request) == dict(request.body)


# ---- reasoning models


@pytest.mark.parametrize(
    "model",
    ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "openai/gpt-5", "ft:o3:org"],
)
async def test_a_reasoning_model_is_never_sent_what_it_refuses(model):
    request = chat_request(model=model, temperature=1, top_p=1, logit_bias={"1": 1}, max_tokens=9)
    body = await sent(request, overrides={"temperature": 0.5})
    assert set(body) == {"model", "messages", "max_completion_tokens"}
    assert body["max_completion_tokens"] == 9


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "o200k-model", "llama-3"]
)
async def test_other_models_take_all_of_it(model):
    body = await sent(chat_request(model=model, temperature=1, max_tokens=9))
    assert (body["temperature"], body["max_tokens"]) == (1, 9)


@pytest.mark.parametrize(
    ("model", "effort", "kept"),
    [
        ("gpt-5.1", None, True),
        ("gpt-5.2", "none", True),
        ("gpt-5.2", "low", False),
        ("gpt-5.2-pro", None, False),
        ("gpt-5.6", None, False),
        ("gpt-5.6", "none", True),
        ("gpt-5", "low", False),
    ],
)
async def test_a_model_that_reasons_on_demand_takes_a_temperature_while_it_does_not(
    model, effort, kept
):
    body = await sent(chat_request(model=model, temperature=0.5, reasoning_effort=effort))
    assert ("temperature" in body) == kept


async def test_the_operator_may_name_more_that_a_model_does_not_take():
    body = await sent(chat_request(model="my-llama", seed=1), unsupported={"my-*": ["seed"]})
    assert "seed" not in body


# ---- scenes

SCENES = [
    {
        "name": "code",
        "models": ["gpt-4*"],
        "pattern": "(?i)python",
        "overrides": {"temperature": 0},
    },
    {"name": "team", "callers": ["team-a"], "defaults": {"temperature": 0.3}},
    {"name": "creative", "defaults": {"temperature": 1.2}},
]


@pytest.mark.parametrize(
    ("request_", "scene"),
    [
        (chat_request(text="Some Python, please"), "code"),
        (chat_request(text="Some Python, please", model="other"), None),
        (chat_request(text="Hi"), None),
        (chat_request(text="Hi", caller="team-a"), "team"),
        (chat_request(text="Hi", options={"scene": "creative"}), "creative"),
        (chat_request(text="Python", options={"scene": "creative"}), "creative"),
        (chat_request(text="Hi", options={"scene": "code"}), "code"),
        (chat_request(text="Python", options={"scene": "unknown"}), "code"),
    ],
)
def test_the_scene_is_the_one_that_is_named_else_the_first_that_holds(request_, scene):
    chosen = choose_scene(SamplingOptions.model_validate({"scenes": SCENES}).scenes, request_)
    assert (chosen.name if chosen else None) == scene


async def test_a_scene_wins_over_the_rules_for_all():
    options = {
        "defaults": {"temperature": 0.7, "seed": 1},
        "limits": {"max_tokens": 100},
        "scenes": [{"name": "x", "defaults": {"temperature": 0.1}, "limits": {"max_tokens": 500}}],
    }
    body = await sent(chat_request(options={"scene": "x"}, max_tokens=400), **options)
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.1, 1, 400)


def test_only_the_newest_user_message_is_searched():
    messages = [
        {"role": "user", "content": "python"},
        {"role": "assistant", "content": "python"},
        {"role": "user", "content": [{"type": "text", "text": "cooking"}, {"type": "image_url"}]},
        {"role": "assistant", "content": "python"},
    ]
    assert newest_user_text(chat_request(messages=messages)) == "cooking"


@given(
    st.lists(
        st.none()
        | st.integers()
        | st.dictionaries(
            st.sampled_from(["role", "content"]), st.none() | st.just("user") | st.lists(st.text())
        )
    )
)
def test_odd_messages_have_no_text_and_do_no_harm(messages):
    assert isinstance(newest_user_text(chat_request(messages=messages)), str)


def test_a_long_message_is_searched_only_so_far():
    assert len(newest_user_text(chat_request(text="x" * 100_000))) == SEARCHED


# ---- options


def tuned(temperature, **options):
    return {"scenes": [{"name": "x", "tune": {"temperature": temperature, **options}}]}


def test_a_scene_may_tune_within_its_own_limits_whatever_those_for_all():
    options = {**tuned([0, 1]), "limits": {"temperature": (0, 0.9)}}
    options["scenes"][0]["limits"] = {"temperature": (0, 1)}
    (scene,) = SamplingOptions.model_validate(options).scenes
    assert scene.tune is not None
    assert scene.tune.temperature == (0.0, 1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"limits": {"temperature": (1, 0)}},
        {"defaults": {"temperature": 3}},
        {"defaults": {"stop": []}},
        {"scenes": [{"name": "no spaces"}]},
        {"scenes": [{"name": "x", "pattern": "("}]},
        {"scenes": [{"name": "x"}, {"name": "x"}]},
        {"temprature": 1},
        {"feedback": {"ttl": 0}},
        tuned([0.5]),
        tuned([n / 10 for n in range(17)]),
        tuned([0.5, 0.5]),
        tuned([0, 2.1]),
        tuned([0, 1], explore=1.1),
        tuned([0, 1], min_feedback=0),
        {**tuned([0, 1]), "overrides": {"temperature": 0}},
        {**tuned([0, 1]), "limits": {"temperature": (0, 0.9)}},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError):
        SamplingOptions(**options)
