"""Checks PromQL: it parses, and every metric, label and label value in it exists (metrics.yaml)."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from twin_tf.core.dataclass_yaml import nearest

_TARGET_LABELS = {"job": "any", "instance": "any"}  # set by Prometheus on every series
_GRAFANA = {"$__rate_interval": "5m", "$instance": ".*"}
_Labels = dict[str, Any]  # label -> every value it can have, or "any"


@cache
def _listed() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "metrics.yaml").read_text(encoding="utf-8"))["metrics"]


@cache
def _known() -> dict[str, _Labels]:
    """Queried names -> their labels."""
    known: dict[str, _Labels] = {}
    for name, metric in _listed().items():
        labels = metric["labels"] | _TARGET_LABELS
        if metric["kind"] == "histogram":
            known |= {f"{name}_bucket": labels | {"le": "any"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            known[name] = labels
    return known


def library_metrics() -> list[str]:
    """The listed metrics whose names the installed TensorFlow holds, as TensorFlow spells them."""
    return [name.replace(":", "/") for name, metric in _listed().items() if metric.get("library")]


def _parts(expression: Any) -> Iterator[Any]:
    """An expression and all expressions within it."""
    yield expression
    for child in ("lhs", "rhs", "expr", "vector_selector", "args", "param"):
        value = getattr(expression, child, None)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, promql_parser.Expr):
                yield from _parts(item)


@cache
def _parse(text: str) -> tuple[Any, ...]:
    for variable, value in _GRAFANA.items():
        text = text.replace(variable, value)
    return tuple(_parts(promql_parser.parse(text)))


def problems(text: str) -> list[str]:
    """What is wrong with an expression; Grafana's variables are filled in first."""
    try:
        parts = _parse(text)
    except ValueError as error:
        return [f"not PromQL: {str(error).strip()}"]
    wrong = [f"Grafana has no variable {name}" for name in re.findall(r"\$\w+", text) if name not in _GRAFANA]
    labels: set[str] = set()
    for part in parts:
        if isinstance(part, promql_parser.VectorSelector):
            found = _known().get(str(part.name))
            if found is None:
                wrong.append(f"no server exports {part.name!r}{nearest(str(part.name), _known())}")
            else:
                labels |= found.keys()
                wrong += [
                    problem for matcher in part.matchers.matchers for problem in _matcher(str(part.name), matcher)
                ]
        if isinstance(part, promql_parser.Call) and part.func.name == "histogram_quantile":
            quantile = part.args[0].val
            wrong += [] if 0 < quantile < 1 else [f"histogram_quantile takes a number below 1, not {quantile:g}"]
    if not wrong:
        wrong = [
            f"no metric here has the label {name!r}{nearest(name, labels)}"
            for name in grouped_by(text)
            if name not in labels
        ]
    return wrong


def _matcher(metric: str, matcher: Any) -> list[str]:
    labels = _known()[metric]
    if matcher.name not in labels:
        return [f"{metric} has no label {matcher.name!r}{nearest(matcher.name, labels)}"]
    known = labels[matcher.name]
    if known == "any":
        return []
    exact = matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.NotEqual)
    values = [matcher.value] if exact else matcher.value.split("|")
    return [f"{matcher.name} is never {value!r}{nearest(value, known)}" for value in values if value not in known]


def grouped_by(text: str) -> list[str]:
    """Every label that an expression aggregates by or matches on."""
    names: list[str] = []
    for part in _parse(text):
        modifier = getattr(part, "modifier", None)
        if isinstance(part, promql_parser.AggregateExpr) and modifier is not None:
            names += modifier.labels
        elif isinstance(part, promql_parser.BinaryExpr) and modifier is not None and modifier.matching is not None:
            names += modifier.matching.labels
    return names


def matched_values(text: str, label: str) -> set[str]:
    """Every value that an expression compares `label` with by `=`."""
    return {
        matcher.value
        for part in _parse(text)
        if isinstance(part, promql_parser.VectorSelector)
        for matcher in part.matchers.matchers
        if matcher.name == label and matcher.op == promql_parser.MatchOp.Equal
    }


def quantiles(text: str) -> set[str]:
    """Which quantiles an expression asks for, as `p99`."""
    return {
        f"p{100 * part.args[0].val:g}"
        for part in _parse(text)
        if isinstance(part, promql_parser.Call) and part.func.name == "histogram_quantile"
    }
