"""The same small budget of tuning for every system: a few factors of both learning rates.

Each system is trained once with each factor and the first seed, and once more beyond its best factor where that is the
smallest or largest; the factor with the best GAUC on the validation records is its own for every seed. Ablations take
TWIN's: they are TWIN without a part.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twin_tf.comparison.systems import System
from twin_tf.config import Config
from twin_tf.files import JsonDict
from twin_tf.strict_yaml import ConfigError, first_difference, nearest

ORIGIN = ("data", "manifest_sha256", "seed", "settings", "code", "commit")
"""What `rates.json` says of where its trials were made."""

Tried = Mapping[str, Mapping[float, float]]


class Rates(NamedTuple):
    """What was tried and what came of it.

    Attributes:
        factors: of `training.embedding_learning_rate` and `training.dense_learning_rate` alike.
        tried: GAUC of the validation records by system and factor; empty for a single factor, which needs no trial.
        origin: of trials that were read from a file: `data`, `manifest_sha256`, `seed`, `settings` (in full),
            `code` and `commit`.
    """

    factors: tuple[float, ...]
    tried: Tried = {}
    origin: JsonDict | None = None

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

    def having(self, system: System, factor: float, gauc: float) -> "Rates":
        """With one more that was tried."""
        mine = {**self.tried.get(system.key, {}), factor: gauc}
        return self._replace(tried={**self.tried, system.key: mine})

    def to_plain(self) -> JsonDict:
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
            origin = {name: plain[name] for name in ORIGIN}
            return Rates(_factors(plain["factors"]), tried, origin)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"--rates {text}: not the rates.json of a comparison ({error!r})") from error
    try:
        return Rates(_factors(text.split(",")))
    except ValueError as error:
        raise ConfigError(
            f"--rates must be different positive factors such as 0.5,1,2, or a rates.json, not {text!r}"
        ) from error


def check_origin(rates: Rates, manifest_sha256: str, settings: JsonDict) -> None:
    """Whether rates of an earlier comparison were chosen for these data and settings.

    Raises:
        ConfigError: for others.
    """
    if rates.origin is None:
        return
    if rates.origin["manifest_sha256"] != manifest_sha256:
        raise ConfigError("--rates were chosen on other data; tune again with --rates 0.5,1,2")
    different = first_difference(rates.origin["settings"], settings)
    if different:
        raise ConfigError(f"--rates were chosen with other settings, {different}; tune again with --rates 0.5,1,2")


def shared_settings(config: Config) -> JsonDict:
    """What all systems of a comparison share, in full; the seed apart, and what no training reads."""
    plain = config.to_plain(defaults=True)
    training = {key: value for key, value in plain["training"].items() if key != "seed"}
    return {"schema": plain["schema"], "model": plain["model"], "training": training}


def _factors(parts: Sequence[Any]) -> tuple[float, ...]:
    factors = tuple(float(part) for part in parts)
    if not factors or not all(0 < factor <= 1000 for factor in factors) or len(set(factors)) < len(factors):
        raise ValueError(f"factors {factors}")
    return factors


def _numbers(found: Mapping[str, float]) -> dict[float, float]:
    return {float(factor): float(gauc) for factor, gauc in found.items()}


def tried_factors(rates: JsonDict) -> list[str]:
    """Every factor that was tried with any system, from the smallest, as `valid_gauc` names it."""
    return sorted({factor for found in rates["valid_gauc"].values() for factor in found}, key=float)


def rate_rows(rates: JsonDict, labels: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Rows of (system, GAUC of the validation records by factor), the best in bold, "-" where it was not tried."""
    rows: list[tuple[str, ...]] = []
    for key, found in rates["valid_gauc"].items():
        best = max(found.values())
        cells = [f"{found[factor]:.4f}" if factor in found else "-" for factor in tried_factors(rates)]
        rows.append((labels.get(key, key), *(f"**{cell}**" if cell == f"{best:.4f}" else cell for cell in cells)))
    return rows


def at_the_edge(rates: JsonDict) -> list[str]:
    """The systems whose best factor is the smallest or largest that they tried: more might be better still."""
    edge = []
    for key, found in rates["valid_gauc"].items():
        ordered = sorted(found, key=float)
        if max(ordered, key=lambda factor: found[factor]) in (ordered[0], ordered[-1]):
            edge.append(key)
    return edge


def untried(rates: Rates, systems: Sequence[System]) -> list[tuple[System, float]]:
    """What is left to try: (system, factor)."""
    if len(rates.factors) == 1:
        return []
    mains = [system for system in systems if not system.ablation]
    return [(s, factor) for s in mains for factor in rates.factors if factor not in rates.tried.get(s.key, {})]


def further(rates: Rates, systems: Sequence[System]) -> list[tuple[System, float]]:
    """One factor more for each system whose best is the smallest or largest of those that all have tried."""
    found: list[tuple[System, float]] = []
    ordered = sorted(rates.factors)
    for system in systems:
        tried = rates.tried.get(system.key, {})
        if len(ordered) > 1 and not system.ablation and set(tried) == set(ordered):
            best = rates.of(system)
            if best == ordered[0]:
                found.append((system, best * best / ordered[1]))
            elif best == ordered[-1]:
                found.append((system, best * best / ordered[-2]))
    return found
