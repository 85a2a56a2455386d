"""Checks PromQL: it parses, and every metric and label in it exists (metrics.yaml)."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from twin_tf.strict_yaml import nearest

_TARGET_LABELS = {"job", "instance"}  # set by Prometheus on every series
_GRAFANA = {"$__rate_interval": "5m", "$instance": ".*"}


@cache
def _known() -> dict[str, set[str]]:
    """Queried names -> their labels."""
    listed = yaml.safe_load((Path(__file__).parent / "metrics.yaml").read_text(encoding="utf-8"))
    known: dict[str, set[str]] = {}
    for name, metric in listed.items():
        labels = {*metric["labels"], *_TARGET_LABELS}
        if metric["kind"] == "histogram":
            known |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            known[name] = labels
    return known


def library_metrics() -> list[str]:
    """The listed metrics whose names the installed TensorFlow holds, as TensorFlow spells them."""
    listed = yaml.safe_load((Path(__file__).parent / "metrics.yaml").read_text(encoding="utf-8"))
    return [name.replace(":", "/") for name, metric in listed.items() if metric.get("library")]


def _selectors(expression: Any) -> Iterator[Any]:
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for child in ("lhs", "rhs", "expr", "vector_selector", "args", "param"):
        value = getattr(expression, child, None)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, promql_parser.Expr):
                yield from _selectors(item)


def _grouped_by(expression: Any) -> Iterator[str]:
    if isinstance(expression, promql_parser.AggregateExpr) and expression.modifier is not None:
        yield from expression.modifier.labels
    for child in ("lhs", "rhs", "expr", "args"):
        value = getattr(expression, child, None)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, promql_parser.Expr):
                yield from _grouped_by(item)


def problems(text: str) -> list[str]:
    """What is wrong with an expression; Grafana's variables are filled in first."""
    for variable, value in _GRAFANA.items():
        text = text.replace(variable, value)
    try:
        expression = promql_parser.parse(text)
    except ValueError as error:
        return [f"not PromQL: {str(error).strip()}"]
    wrong = []
    labels: set[str] = set()
    for selector in _selectors(expression):
        if selector.name not in _known():
            wrong.append(f"no server exports {selector.name!r}{nearest(str(selector.name), _known())}")
            continue
        labels |= _known()[selector.name]
        for matcher in selector.matchers.matchers:
            if matcher.name not in _known()[selector.name]:
                wrong.append(
                    f"{selector.name} has no label {matcher.name!r}{nearest(matcher.name, _known()[selector.name])}"
                )
    wrong += [
        f"no metric here has the label {name!r}{nearest(name, labels)}"
        for name in _grouped_by(expression)
        if labels and name not in labels
    ]
    return wrong


def matched_values(text: str, label: str) -> set[str]:
    """Every value that an expression compares `label` with by `=`."""
    for variable, value in _GRAFANA.items():
        text = text.replace(variable, value)
    expression = promql_parser.parse(text)
    return {
        matcher.value
        for selector in _selectors(expression)
        for matcher in selector.matchers.matchers
        if matcher.name == label and matcher.op == promql_parser.MatchOp.Equal
    }
