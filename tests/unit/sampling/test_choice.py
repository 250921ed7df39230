"""Which temperature a request gets: by what is known, and at times blindly."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from benchmarks.feedback import CURVES, TEMPERATURES, run
from plugins.sampling.choice import View
from plugins.sampling.options import Tune
from plugins.sampling.tallies import Tallies, Tally


def tuned(**options):
    return Tune(temperature=(0.0, 0.5, 1.0), **options)


def knowing(number=100, **shares):
    """100 answers with each temperature, faded by nothing, and the share of them that were liked."""
    names = {"low": "0.0", "middle": "0.5", "high": "1.0"}
    return Tallies(
        number=number,
        tallies={
            names[name]: Tally(100 * share, 100 * (1 - share), 100, 100, 100 * share)
            for name, share in shares.items()
        },
    )


def choices(tune, known, times=2_000):
    draw, view = Random(1), View.of(tune, known)
    return Counter(view.choose(tune, draw) for _ in range(times))


def test_the_best_is_chosen_most_and_the_worst_hardly():
    found = choices(tuned(explore=0), knowing(low=0.5, middle=0.7, high=0.2))
    assert found[0.5] > 1_950
    assert found[1.0] == 0


def test_what_is_equally_good_is_chosen_equally_often():
    found = choices(tuned(explore=0), knowing(low=0.6, middle=0.6, high=0.6))
    assert min(found.values()) > 550


def test_a_share_of_requests_is_drawn_blindly_whatever_is_known():
    found = choices(tuned(explore=0.3), knowing(low=0.9, middle=0.1, high=0.1))
    assert 150 < found[0.5] < 250
    assert 150 < found[1.0] < 250


def test_those_with_too_little_feedback_take_turns_and_nobody_else():
    known = knowing(low=0.9, middle=0.1)
    assert choices(tuned(min_feedback=5), known).keys() == {1.0}
    assert choices(tuned(min_feedback=101), known).keys() == {0.0, 0.5, 1.0}


def test_a_frozen_scene_uses_the_best_one_and_no_other():
    known = knowing(low=0.5, middle=0.7, high=0.69)
    assert choices(tuned(freeze=True, explore=1), known).keys() == {0.5}


def test_a_frozen_scene_judges_by_nothing_that_had_too_little_feedback():
    known = knowing(middle=0.1)
    assert choices(tuned(freeze=True), known).keys() == {0.5}
    assert choices(tuned(freeze=True), Tallies()).keys() == {None}


def test_what_is_not_tried_becomes_uncertain_again():
    def arm(number):
        return View.of(tuned(half_life=50), knowing(number, high=0.9)).arms[2]

    fresh, old, ancient = arm(100), arm(150), arm(100_000)
    assert (fresh.alpha, fresh.beta) == pytest.approx((91, 11))
    assert (old.alpha, old.beta) == pytest.approx((46, 6))
    assert (ancient.alpha, ancient.beta) == pytest.approx((1, 1))
    assert fresh.score == ancient.score == pytest.approx(0.8)
    assert View.of(tuned(half_life=0), knowing(100_000, high=0.9)).arms[2] == fresh


# ---- the benchmark, small


@pytest.mark.parametrize("seed", range(3))
def test_the_best_temperature_is_found_within_2000_requests(seed):
    found = run(CURVES["peaked"], 1.0, seed, requests=2_000)
    blind = run(CURVES["peaked"], 1.0, seed, requests=2_000, is_blind=True)
    chosen = Counter(TEMPERATURES[place] for place in found.chosen)
    assert chosen[0.3] > 0.6 * 2_000
    assert found.regret[-1] < 0.5 * blind.regret[-1]


def test_it_follows_where_the_best_one_changes():
    tune = Tune(temperature=TEMPERATURES, half_life=200)
    found = run(CURVES["drifting"], 1.0, 1, requests=4_000, tune=tune)
    first, last = Counter(found.chosen[:1_000]), Counter(found.chosen[-1_000:])
    assert first.most_common(1)[0][0] == 0
    assert last.most_common(1)[0][0] == 3
    assert found.regret[-1] < 0  # better than any fixed one


def test_it_learns_from_a_tenth_of_the_clients():
    found = run(CURVES["peaked"], 0.1, 1, requests=4_000)
    assert Counter(found.chosen[-1_000:])[1] > 600
