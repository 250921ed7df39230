from __future__ import annotations

import random

import pytest

from proxy.tokens.calibration import Calibration, Fit, Observation, fit

TRUE = Fit(70.0, 6.0, 1.1)


def observations(count: int, template: Fit = TRUE, seed: int = 1) -> list[Observation]:
    pick = random.Random(seed)
    made = []
    for _ in range(count):
        messages, text = pick.randint(1, 20), pick.randint(20, 3_000)
        made.append(Observation(messages, text, round(template.tokens(messages, text))))
    return made


@pytest.mark.parametrize("template", [TRUE, Fit(3, 4, 1), Fit(0, 2, 0.9), Fit(80, 7, 1.15)])
def test_a_template_is_learned_from_five_requests(template: Fit) -> None:
    learned = fit(observations(5, template))
    for messages, text, prompt_tokens in observations(50, template, seed=2):
        assert learned.tokens(messages, text) == pytest.approx(prompt_tokens, rel=0.05, abs=25)


def test_one_odd_answer_says_little() -> None:
    learned = fit([*observations(10), Observation(3, 100, 50_000)])
    assert learned.tokens(10, 1_000) == pytest.approx(TRUE.tokens(10, 1_000), rel=0.1)


def test_requests_that_are_all_alike_change_little_else() -> None:
    learned = fit([Observation(1, 100, 120)] * 5)
    assert learned.tokens(1, 100) == pytest.approx(120, abs=3)
    assert learned.tokens(20, 2_000) == pytest.approx(3 + 80 + 2_000, rel=0.1)


def test_nothing_is_known_before_five_observations() -> None:
    calibration = Calibration()
    for observed, observation in enumerate(observations(5), start=1):
        calibration.observe("server", "model", observation)
        assert (calibration.fit("server", "model") is None) == (observed < 5)
    assert calibration.fit("other server", "model") is None
    assert calibration.fit("server", "other model") is None


def test_a_changed_template_is_learned_anew() -> None:
    calibration = Calibration()
    for observation in observations(50) + observations(40, Fit(10, 4, 0.9)):
        calibration.observe("server", "model", observation)
    learned = calibration.fit("server", "model")
    assert learned is not None
    assert learned.tokens(10, 2_000) == pytest.approx(10 + 40 + 1_800, rel=0.02)


def test_the_share_of_exact_counts_is_that_of_the_last_hundred() -> None:
    calibration = Calibration()
    for _ in range(200):
        calibration.note("server", "model", was_exact=True)
    assert calibration.exact_share("server", "model") == 1.0
    for _ in range(50):
        calibration.note("server", "model", was_exact=False)
    assert calibration.exact_share("server", "model") == 0.5


def test_a_share_of_few_says_nothing() -> None:
    calibration = Calibration()
    for _ in range(19):
        calibration.note("server", "model", was_exact=True)
    assert calibration.exact_share("server", "model") is None
    assert calibration.exact_share("server", "other") is None


def test_the_number_of_models_is_bounded() -> None:
    calibration = Calibration()
    for index in range(1_000):
        for observation in observations(5):
            calibration.observe("server", f"model {index}", observation)
    assert calibration.fit("server", "model 0") is None
    assert calibration.fit("server", "model 999") is not None
    assert len(calibration._observations) <= 256
