"""Linear probes: how much of what windows show can be read from numbers by a linear map alone.

A probe is fitted on the windows of some groups (clips, episodes or tasks) and judged on the windows of the
others, so that no clip is on both sides. Letters: S windows, K numbers of a window, D numbers of a target.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from amplify_motion_tokenizer.errors import UsageError

Floats = NDArray[np.floating[Any]]

FOLDS = 4
"""One of so many parts of the groups is judged on; the penalty is chosen on one less parts of the rest."""

LEAST_GROUPS = FOLDS
"""Groups that a target needs, and each class of one: one to judge on, the others to fit and choose on."""

RIDGE_PENALTIES = tuple(float(each) for each in 10.0 ** np.arange(-3, 5))
"""Of the squared weights, for numbers whose mean variance is 1."""

LOGISTIC_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse penalties of the weights of a logistic probe, for such numbers."""

Measure = Literal["accuracy", "error"]


class Target(NamedTuple):
    """What probes are to tell of windows."""

    name: str
    values: NDArray[Any]
    """(S,) text, a class each; or (S, D) float64, numbers."""
    groups: NDArray[np.int64]
    """(S,) which group each window is of; no group is both fitted and judged on."""

    @property
    def measure(self) -> Measure:
        """accuracy: share of windows whose class is told right. error: mean squared error of the numbers.

        Each number is in standard deviations over the windows that are fitted on, so telling the mean of
        them has an error of about 1 wherever groups are alike.
        """
        return "accuracy" if self.values.dtype.kind == "U" else "error"


class Split(NamedTuple):
    """Rows (windows) that are fitted and judged on."""

    fitted: NDArray[np.int64]
    judged: NDArray[np.int64]


def sklearn(module: str) -> Any:
    """A module of scikit-learn.

    Raises:
        UsageError: it is not installed; says how to.
    """
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError:
        raise UsageError(
            "probes need scikit-learn, which is not installed; pip install 'scikit-learn>=1.5' (or this "
            "package with the extra probe)"
        ) from None


def usable(target: Target) -> NDArray[np.bool_]:
    """(S,) windows that count: their target is known, and its class is in ``LEAST_GROUPS`` groups or more."""
    if target.measure == "error":
        return np.asarray(np.isfinite(target.values).all(axis=1))
    found = np.zeros(len(target.values), bool)
    for name in set(target.values.tolist()) - {""}:
        rows = target.values == name
        found |= rows & (len(set(target.groups[rows].tolist())) >= LEAST_GROUPS)
    return found


def unfit(target: Target) -> str:
    """Why a probe of a target is impossible, in words; empty where it is possible."""
    groups = len(set(target.groups.tolist()))
    if groups < LEAST_GROUPS:
        return f"is known in {groups} clips or tasks, expected at least {LEAST_GROUPS}"
    if len(np.unique(target.values, axis=0)) < 2:
        return (
            "is the same in all windows that count, expected two classes or numbers that differ; a class "
            f"counts in {LEAST_GROUPS} clips or more"
        )
    return ""


def splits(target: Target, seeds: int) -> list[Split]:
    """A split of the windows for each seed, the same ones for the same target; classes are spread evenly.

    Raises:
        UsageError: there are too few groups, or classes, or numbers that differ, for a probe.
    """
    reason = unfit(target)
    if reason:
        raise UsageError(f"the target {target.name} {reason}")
    return [_split(target, FOLDS, seed)[0] for seed in range(seeds)]


def probe(numbers: Floats, target: Target, parts: Sequence[Split], components: int = 0) -> list[float]:
    """``target.measure`` of a linear probe on each split.

    Classes are told by logistic regression, numbers by ridge regression, both of scikit-learn, with a
    penalty that is chosen on the windows that are fitted on, by groups too.

    Args:
        numbers: (S, K) of the windows; all are scaled by one factor, so a rotation of them changes nothing.
        target: what is to be told.
        parts: from ``splits``.
        components: of so many principal components of the fitted windows alone; 0: of the numbers.
    """
    # Thousands of small fits, for each of which threads take longer to start than to work.
    with importlib.import_module("threadpoolctl").threadpool_limits(1):
        return [_score(np.asarray(numbers, np.float64), target, part, components) for part in parts]


def chance(target: Target, parts: Sequence[Split]) -> list[float]:
    """What telling the most frequent class, or the mean, of the fitted windows gets."""
    return probe(np.zeros((len(target.values), 1)), target, parts)


def _split(target: Target, folds: int, seed: int) -> list[Split]:
    selection = sklearn("model_selection")
    kind = selection.StratifiedGroupKFold if target.measure == "accuracy" else selection.GroupKFold
    classes = target.values if target.measure == "accuracy" else None
    made = kind(n_splits=folds, shuffle=True, random_state=seed)
    rows = np.arange(len(target.values))
    return [Split(*found) for found in made.split(rows, classes, target.groups)]


def _score(numbers: NDArray[np.float64], target: Target, part: Split, components: int) -> float:
    fitted = numbers[part.fitted]
    if components:
        reduced = sklearn("decomposition").PCA(min(components, *fitted.shape), svd_solver="full").fit(fitted)
        numbers = reduced.transform(numbers)
        fitted = numbers[part.fitted]
    scale = np.sqrt(fitted.var(axis=0).mean()) or 1.0
    numbers = (numbers - fitted.mean(axis=0)) / scale
    own = Target(target.name, target.values[part.fitted], target.groups[part.fitted])
    folds = [tuple(each) for each in _split(own, FOLDS - 1, 0)]
    (model, penalties, scoring), values = _model(target, own)
    chosen = sklearn("model_selection").GridSearchCV(model, penalties, scoring=scoring, cv=folds)
    told = chosen.fit(numbers[part.fitted], values[part.fitted]).predict(numbers[part.judged])
    true = values[part.judged]
    if target.measure == "accuracy":
        return float((told == true).mean())
    return float(np.square(told.reshape(true.shape) - true).mean())


def _model(target: Target, fitted: Target) -> tuple[tuple[Any, dict[str, Any], str], NDArray[Any]]:
    """The regression, its penalties and how one is chosen; and the target as it is to be told.

    Numbers are in standard deviations of the fitted windows; ones that do not vary there are left out.
    """
    linear = sklearn("linear_model")
    if target.measure == "accuracy":
        model = linear.LogisticRegression(max_iter=1000)
        return (model, {"C": LOGISTIC_STRENGTHS}, "accuracy"), target.values
    deviations = fitted.values.std(axis=0)
    varying = deviations > 1e-9 * np.abs(fitted.values).max(axis=0)
    if not varying.any():
        raise UsageError(f"the target {target.name} does not vary over the windows of some clips; give more")
    values = (target.values - fitted.values.mean(axis=0))[:, varying] / deviations[varying]
    return (linear.Ridge(), {"alpha": RIDGE_PENALTIES}, "neg_mean_squared_error"), values
