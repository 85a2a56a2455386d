"""The same small budget of tuning for every system: a grid over the two learning rates.

Each system is trained once with each pair of factors and the first seed, and once more beyond its best pair in each
rate whose best factor is the smallest or largest of the grid. The pair with the best GAUC on the validation records is
its own for every seed. Ablations take TWIN's: they are TWIN without a part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twin_tf.config import Config
from twin_tf.core.dataclass_yaml import ConfigError, first_difference, nearest
from twin_tf.core.files import JsonDict
from twin_tf.core.yaml_text import parse_json
from twin_tf.experiments.comparison.systems import Factors, System
from twin_tf.renamed_settings import current_names

ORIGIN = ("data", "manifest_sha256", "seed", "settings", "code", "commit")
"""What `rates.json` says of where its trials were made."""

Tried = Mapping[str, Mapping[Factors, float]]


class Rates(NamedTuple):
    """What was tried and what came of it.

    Attributes:
        embedding: factors of `training.embedding_learning_rate`.
        dense: factors of `training.dense_learning_rate`; the grid is every pair of one of each.
        tried: GAUC of the validation records by system and factors; empty for a single pair, which needs no trial.
        origin: of trials that were read from a file: `data`, `manifest_sha256`, `seed`, `settings` (in full), `code`
            and `commit`.
    """

    embedding: tuple[float, ...] = (1.0,)
    dense: tuple[float, ...] = (1.0,)
    tried: Tried = {}
    origin: JsonDict | None = None

    @property
    def grid(self) -> list[Factors]:
        """Every pair that all systems try."""
        return [Factors(embedding, dense) for embedding in self.embedding for dense in self.dense]

    def of(self, system: System) -> Factors:
        """The system's factors; the smallest of equally good ones.

        Raises:
            ConfigError: it was not tried.
        """
        if len(self.grid) == 1:
            return self.grid[0]
        key = "twin" if system.ablation else system.key
        if key not in self.tried:
            hint = nearest(key, self.tried)
            raise ConfigError(f"no rates were tried for {key!r}{hint}; tune it with --rates 0.5,1,2")
        return best_of(self.tried[key])

    def having(self, system: System, factors: Factors, gauc: float) -> "Rates":
        """With one more that was tried."""
        mine = {**self.tried.get(system.key, {}), factors: gauc}
        return self._replace(tried={**self.tried, system.key: mine})

    def to_plain(self) -> JsonDict:
        """What `rates.json` and `report.json` hold."""
        tried = {key: {str(factors): gauc for factors, gauc in found.items()} for key, found in self.tried.items()}
        grid = {"embedding": list(self.embedding), "dense": list(self.dense)}
        return {**grid, "valid_gauc": tried, "origin": self.origin}


def best_of(tried: Mapping[Factors, float]) -> Factors:
    """The factors with the highest GAUC; the smallest of equally good ones."""
    return max(sorted(tried), key=lambda factors: tried[factors])


def read_rates(text: str) -> Rates:
    """A grid, or the `rates.json` of an earlier comparison.

    Args:
        text: `0.5,1,2`, factors for both rates; `0.3,1/0.5,1,2`, embedding factors before the stroke and dense ones
            behind it; or a path that ends in `.json`.

    Raises:
        ConfigError: none of these.
    """
    path = Path(text)
    if path.suffix == ".json":
        try:
            plain = parse_json(path.read_bytes(), text)
            tried = {key: _numbers(found) for key, found in plain["valid_gauc"].items()}
            origin = {name: plain[name] for name in ORIGIN}
            return Rates(_factors(plain["embedding"]), _factors(plain["dense"]), tried, origin)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(f"--rates {text}: not the rates.json of a comparison ({error!r})") from error
    embedding, stroke, dense = text.partition("/")
    try:
        return Rates(_factors(embedding.split(",")), _factors((dense if stroke else embedding).split(",")))
    except ValueError as error:
        raise ConfigError(
            "--rates must be different positive factors such as 0.5,1,2, with a stroke between those of the embedding "
            f"and of the dense rate if they differ (0.3,1/0.5,1,2), or a rates.json, not {text!r}"
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
    recorded, _ = current_names(rates.origin["settings"])
    different = first_difference(recorded, settings)
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


def _numbers(found: Mapping[str, float]) -> dict[Factors, float]:
    return {Factors.parse(factors): float(gauc) for factors, gauc in found.items()}


def rate_rows(rates: JsonDict, labels: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Rows of (system, best embedding factor, best dense factor, its GAUC, the next best, the worst, trials)."""
    rows: list[tuple[str, ...]] = []
    for key, found in rates["valid_gauc"].items():
        best, gauc = best_of(_numbers(found)), sorted(found.values(), reverse=True)
        second = f"{gauc[1]:.4f}" if len(gauc) > 1 else "-"
        figures = (f"{gauc[0]:.4f}", second, f"{gauc[-1]:.4f}", str(len(gauc)))
        rows.append((labels.get(key, key), f"{best.embedding:g}", f"{best.dense:g}", *figures))
    return rows


def at_the_edge(rates: JsonDict) -> list[str]:
    """The systems whose best factor of a rate is the smallest or largest that they tried: more might be better."""
    edge = []
    for key, plain in rates["valid_gauc"].items():
        found = _numbers(plain)
        best = best_of(found)
        for axis in range(len(best)):
            tried = {factors[axis] for factors in found}
            if len(tried) > 1 and best[axis] in (min(tried), max(tried)) and key not in edge:
                edge.append(key)
    return edge


def untried(rates: Rates, systems: Sequence[System]) -> list[tuple[System, Factors]]:
    """What is left to try of the grid."""
    if len(rates.grid) == 1:
        return []
    mains = [system for system in systems if not system.ablation]
    return [(s, factors) for s in mains for factors in rates.grid if factors not in rates.tried.get(s.key, {})]


def further(rates: Rates, systems: Sequence[System]) -> list[tuple[System, Factors]]:
    """One trial more for each system and rate whose best factor is at the edge of the grid that all have tried."""
    found: list[tuple[System, Factors]] = []
    for system in systems:
        tried = rates.tried.get(system.key, {})
        if system.ablation or set(tried) != set(rates.grid) or len(rates.grid) == 1:
            continue
        best = rates.of(system)
        embedding, dense = _beyond(best.embedding, rates.embedding), _beyond(best.dense, rates.dense)
        if embedding is not None:
            found.append((system, best._replace(embedding=embedding)))
        if dense is not None:
            found.append((system, best._replace(dense=dense)))
    return found


def _beyond(best: float, factors: Sequence[float]) -> float | None:
    """The next factor outside the grid, as far again as the step to its neighbour; None within the grid."""
    ordered = sorted(factors)
    if len(ordered) == 1 or best not in (ordered[0], ordered[-1]):
        return None
    return best * best / (ordered[1] if best == ordered[0] else ordered[-2])
