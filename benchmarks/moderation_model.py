"""Writes the words of the built-in classifier: python -m benchmarks.moderation_model FILE.

They are taken over from the model in alt-profanity-check 1.9.1 (MIT), a linear one on words by tf-idf,
which its authors trained on comments from the Toxic Comment Classification Challenge (CC0) and the
tweets of Davidson et al. 2017 (MIT).  Its five folds become one: the mean of their weights, each
as its calibration (Platt) scales it.  Needs: pip install alt-profanity-check.
"""

from __future__ import annotations

import argparse
import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any


def words(vectorizer: Any, model: Any) -> tuple[float, dict[str, tuple[float, float]]]:
    """The bias, and of each word how much it counts in a text, and how bad it is."""
    folds = [
        (-calibrator.a_, -calibrator.b_, each.estimator)
        for each in model.calibrated_classifiers_
        for calibrator in each.calibrators
    ]
    weights = sum(scale * svm.coef_[0] for scale, _, svm in folds) / len(folds)
    bias = sum(scale * svm.intercept_[0] + shift for scale, shift, svm in folds) / len(folds)
    found = {
        word: (float(vectorizer.idf_[place]), float(weights[place]))
        for word, place in sorted(vectorizer.vocabulary_.items())
    }
    return float(bias), found


def main() -> None:
    import joblib

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    folder = files("profanity_check") / "data"
    bias, found = words(
        joblib.load(str(folder / "vectorizer.joblib")), joblib.load(str(folder / "model.joblib"))
    )
    lines = [f"\t1\t{bias:.4f}"]
    lines += [f"{word}\t{idf:.1f}\t{weight:.2f}" for word, (idf, weight) in found.items()]
    made = gzip.compress("\n".join(lines).encode(), 9, mtime=0)
    parser.parse_args().file.write_bytes(made)
    print(f"{len(found):,} words, {len(made):,} bytes")


if __name__ == "__main__":
    main()
