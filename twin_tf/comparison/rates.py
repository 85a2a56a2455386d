"""The same small budget of tuning for every system: a few factors of both learning rates.

Each system is trained once with each factor and the first seed; the factor with the best GAUC on the validation records
is its own for every seed. Ablations take TWIN's: they are TWIN without a part.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twin_tf.command_steps import Plain
from twin_tf.comparison.systems import System
from twin_tf.config import TrainingConfig
from twin_tf.strict_yaml import ConfigError, nearest

Tried = Mapping[str, Mapping[float, float]]


class Rates(NamedTuple):
    """What was tried and what came of it.

    Attributes:
        factors: of `training.embedding_learning_rate` and `training.dense_learning_rate` alike.
        tried: GAUC of the validation records by system and factor; empty for a single factor, which needs no trial.
        origin: of trials that were read from a file: `data`, `manifest_sha256`, `seed`, `base` (the rates themselves).
    """

    factors: tuple[float, ...]
    tried: Tried = {}
    origin: Plain | None = None

    def of(self, system: System) -> float:
        """The system's factor; the smallest of equally good ones.

        Raises:
            ConfigError: it was not tried.
        """
        if len(self.factors) == 1:
            return self.factors[0]
        key = "twin" if system.ablation else system.key
        if key not in self.tried:
            raise ConfigError(f"no rate was tried for {key!r}{nearest(key, self.tried)}; tune it with --rates 0.5,1,2")
        gauc = self.tried[key]
        return max(sorted(gauc), key=lambda factor: gauc[factor])

    def to_plain(self) -> Plain:
        """What `rates.json` and `report.json` hold."""
        tried = {key: {str(factor): gauc for factor, gauc in found.items()} for key, found in self.tried.items()}
        return {"factors": list(self.factors), "valid_gauc": tried, "origin": self.origin}


def read_rates(text: str) -> Rates:
    """Factors with commas between, or the `rates.json` of an earlier comparison.

    Raises:
        ConfigError: neither.
    """
    path = Path(text)
    if path.suffix == ".json":
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            tried = {key: _numbers(found) for key, found in plain["valid_gauc"].items()}
            origin = {name: plain[name] for name in ("data", "manifest_sha256", "seed", "base")}
            return Rates(_factors(plain["factors"]), tried, origin)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"--rates {text}: not the rates.json of a comparison ({error!r})") from error
    try:
        return Rates(_factors(text.split(",")))
    except ValueError as error:
        raise ConfigError(
            f"--rates must be different positive factors such as 0.5,1,2, or a rates.json, not {text!r}"
        ) from error


def base_rates(training: TrainingConfig) -> Plain:
    """The rates that factors multiply."""
    return {name: getattr(training, name) for name in ("embedding_learning_rate", "dense_learning_rate")}


def _factors(parts: Sequence[Any]) -> tuple[float, ...]:
    factors = tuple(float(part) for part in parts)
    if not factors or not all(0 < factor <= 1000 for factor in factors) or len(set(factors)) < len(factors):
        raise ValueError(f"factors {factors}")
    return factors


def _numbers(found: Mapping[str, float]) -> dict[float, float]:
    return {float(factor): float(gauc) for factor, gauc in found.items()}


def rate_rows(rates: Plain, labels: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Rows of (system, GAUC of the validation records by factor), the best in bold."""
    rows: list[tuple[str, ...]] = []
    for key, found in rates["valid_gauc"].items():
        best = max(found.values())
        cells = [f"{found[str(factor)]:.4f}" for factor in rates["factors"] if str(factor) in found]
        rows.append((labels.get(key, key), *(f"**{cell}**" if cell == f"{best:.4f}" else cell for cell in cells)))
    return rows


def at_the_edge(rates: Plain) -> list[str]:
    """The systems whose best factor is the smallest or largest that was tried: more might be better still."""
    if len(rates["factors"]) < 3:
        return []  # of two, each is at an edge
    edges = {str(min(rates["factors"])), str(max(rates["factors"]))}
    return [key for key, found in rates["valid_gauc"].items() if max(sorted(found), key=lambda f: found[f]) in edges]


def untried(rates: Rates, systems: Sequence[System]) -> list[tuple[System, float]]:
    """What is left to try: (system, factor)."""
    if len(rates.factors) == 1:
        return []
    mains = [system for system in systems if not system.ablation]
    return [(s, factor) for s in mains for factor in rates.factors if factor not in rates.tried.get(s.key, {})]
