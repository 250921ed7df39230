"""Costs by the table that comes along, by whose API it is, and by one's own prices."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot

from proxy.prices import Price, cost
from proxy.usage import Usage

MILLION = Usage(1_000_000, 0)


def test_a_known_model_costs_what_the_table_says():
    found = cost("gpt-4o-mini", Usage(1_000_000, 100_000))
    assert found is not None
    assert (found.input, found.output) == (Decimal("0.15"), Decimal("0.06"))
    assert found.total == Decimal("0.21")
    assert (found.provider, found.model) == ("openai", "gpt-4o-mini")


def test_what_the_upstream_had_in_its_cache_is_cheaper():
    plain, cached = cost("gpt-4o-mini", MILLION), cost("gpt-4o-mini", Usage(1_000_000, 0, 400_000))
    assert plain is not None
    assert cached is not None
    assert cached.input == Decimal("0.6") * plain.input + Decimal("0.4") * plain.input / 2


def test_what_is_written_to_a_cache_costs_more_where_the_table_says_so():
    plain = cost("claude-sonnet-4-5", Usage(10_000, 0))
    written = cost("claude-sonnet-4-5", Usage(10_000, 0, 0, 10_000))
    assert plain is not None
    assert written is not None
    assert written.input == plain.input * Decimal("1.25")


@pytest.mark.parametrize("model", ["", "nobody's model"])
def test_a_model_that_nobody_knows_has_no_price(model):
    assert cost(model, MILLION) is None


@pytest.mark.parametrize("usage", [Usage(1_000, 200, 100, 50), Usage(300_000, 5, 1_000)])
def test_what_is_reckoned_here_is_what_the_table_reckons(usage):
    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.completion_tokens,
    )
    for provider in get_snapshot().providers:
        for known in provider.models:
            found = cost(known.id, usage, provider=provider.id)
            try:
                listed = genai_prices.calc_price(tokens, known.id, provider_id=provider.id)
            except (LookupError, ValueError):
                assert found is None
                continue
            assert found is not None
            assert found.input == pytest.approx(listed.input_price, rel=Decimal("1e-20"))
            assert found.output == pytest.approx(listed.output_price, rel=Decimal("1e-20"))


def test_numbers_that_cannot_be_have_no_price():
    assert cost("gpt-4o-mini", Usage(10, 0, 1_000)) is None


@pytest.mark.parametrize(
    ("base_url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://mine.openai.azure.com/openai/v1/", "azure"),
        ("http://127.0.0.1:9000/v1", "openai"),  # nobody's host: by the model's name
        ("", "openai"),
    ],
)
def test_whose_price_it_is_follows_from_the_host(base_url, provider):
    found = cost("gpt-4o-mini", MILLION, base_url=base_url)
    assert found is not None
    assert found.provider == provider


def test_a_host_that_is_known_for_other_models_has_no_price_for_this_one():
    assert cost("gpt-4o-mini", MILLION, base_url="https://api.deepseek.com/v1") is None


def test_a_provider_that_is_named_stands_above_the_host():
    found = cost("gpt-4o-mini", MILLION, provider="azure", base_url="https://api.openai.com/v1")
    assert found is not None
    assert found.provider == "azure"
    assert (
        cost("gpt-4o-mini", MILLION, provider="my-own", base_url="https://api.openai.com") is None
    )


def test_our_own_prices_stand_above_all_others():
    ours = {
        "my-*": Price(Decimal(2), Decimal(8), cached_input=Decimal(1), cache_write=Decimal(3)),
        "*": Price(Decimal(1), Decimal(4)),
    }
    mine = cost("my-model", Usage(1_000_000, 500_000, 400_000, 100_000), overrides=ours)
    assert mine is not None
    assert (mine.input, mine.output) == (Decimal("1.7"), Decimal(4))
    assert (mine.provider, mine.model) == ("", "my-*")
    other = cost("gpt-4o-mini", Usage(1_000_000, 0, 400_000), overrides=ours)
    assert other is not None
    assert other.input == 1  # without a price of its own, cached input costs as any


def test_the_table_is_not_imported_before_it_is_needed():
    code = "import sys, proxy.prices; print('genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
