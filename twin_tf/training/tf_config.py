"""A cluster as TF_CONFIG describes it: TensorFlow's own JSON, read and checked without TensorFlow.

    {"cluster": {"chief": ["a:2222"], "worker": ["b:2222", "c:2222"], "ps": ["d:2222"]},
     "task": {"type": "worker", "index": 0}}

Every process of a cluster has the same `cluster` and another `task`.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Literal, get_args

from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.core.yaml_text import parse_json

StrategyName = Literal["single", "mirrored", "multi_worker", "parameter_server"]

TASKS: Mapping[str, tuple[str, ...]] = {
    "multi_worker": ("chief", "worker"),
    "parameter_server": ("chief", "worker", "ps"),
}
"""Strategy -> the task types of its cluster; the others use one machine."""

SEE = "see docs/distributed.md"


@dataclasses.dataclass(frozen=True)
class Task:
    """One process of a cluster.

    Attributes:
        type: `chief`, `worker` or `ps`.
        index: among the tasks of its type.
        cluster: task type -> addresses, `host:port`.
    """

    type: str
    index: int
    cluster: Mapping[str, tuple[str, ...]]

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run: the chief, or the first worker where there is none."""
        return self.type == "chief" or (self.type == "worker" and self.index == 0 and "chief" not in self.cluster)

    def serves(self, strategy: StrategyName) -> bool:
        """Whether this process only serves the chief: the workers and parameter servers of `parameter_server`."""
        return strategy == "parameter_server" and not self.is_chief


def read_task(strategy: StrategyName, environment: Mapping[str, str] | None = None) -> Task | None:
    """This process's place in the cluster of TF_CONFIG.

    Args:
        strategy: which strategy it is for.
        environment: the process's own if left out.

    Returns:
        None for the strategies of one machine.

    Raises:
        ConfigError: an unknown strategy; a TF_CONFIG that is missing, malformed, or describes no cluster of that
            strategy; or a cluster of several processes for a strategy of one.
    """
    if strategy not in get_args(StrategyName):
        raise ConfigError(f"strategy {strategy!r} is unknown{nearest(strategy, get_args(StrategyName))}")
    text = (os.environ if environment is None else environment).get("TF_CONFIG", "").strip()
    if strategy not in TASKS:
        _refuse_idle_cluster(strategy, text)
        return None
    if not text:
        raise ConfigError(
            f"--strategy {strategy} needs the environment variable TF_CONFIG: JSON with the addresses of the cluster "
            f"and the task of this process; {SEE}"
        )
    config = _parse(text)
    cluster = _cluster(config, strategy)
    task = config.get("task")
    if not isinstance(task, dict) or "type" not in task:
        raise ConfigError(
            f'TF_CONFIG has no task: it says which process of the cluster this is, {{"type": ..., "index": ...}}; {SEE}'
        )
    return Task(*_task(task, cluster), cluster)


def _refuse_idle_cluster(strategy: str, text: str) -> None:
    """Several processes that each believe to be alone would all write the same run."""
    try:
        cluster = parse_json(text or "{}", "TF_CONFIG").get("cluster", {})
        tasks = sum(len(addresses) for addresses in cluster.values())
    except (ValueError, AttributeError, TypeError):
        return
    if tasks > 1:
        raise ConfigError(
            f"TF_CONFIG names a cluster of {tasks} tasks, but --strategy {strategy} uses this machine alone; choose "
            "--strategy multi_worker or parameter_server, or unset TF_CONFIG"
        )


def _parse(text: str) -> dict[str, Any]:
    try:
        config = parse_json(text, "TF_CONFIG")
    except ConfigError as error:
        raise ConfigError(f"{error}; {SEE}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"TF_CONFIG must be a JSON object with cluster and task, not {text[:60]}; {SEE}")
    return config


def _cluster(config: dict[str, Any], strategy: str) -> dict[str, tuple[str, ...]]:
    given = config.get("cluster")
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"TF_CONFIG has no cluster: the addresses of {', '.join(TASKS[strategy])} tasks; {SEE}")
    cluster = {}
    for name, addresses in given.items():
        if name not in TASKS[strategy]:
            raise ConfigError(
                f"TF_CONFIG's cluster has the task type {name!r}, which --strategy {strategy} does not know"
                f"{nearest(name, TASKS[strategy])}"
            )
        if not isinstance(addresses, list) or not addresses:
            raise ConfigError(f"TF_CONFIG's cluster must give {name} a list of addresses, not {addresses!r}")
        for address in addresses:
            host, _, port = str(address).rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ConfigError(
                    f"TF_CONFIG's cluster has the {name} address {address!r}; it must read host:port, "
                    "with a port from 1 to 65535"
                )
        cluster[name] = tuple(map(str, addresses))
    if len(cluster.get("chief", ())) > 1:
        raise ConfigError(f"TF_CONFIG's cluster must have one chief, not {len(cluster['chief'])}")
    if strategy == "parameter_server":
        for name in TASKS[strategy]:
            if name not in cluster:
                raise ConfigError(f"TF_CONFIG's cluster has no {name}; --strategy parameter_server needs at least one")
    return cluster


def _task(task: dict[str, Any], cluster: Mapping[str, tuple[str, ...]]) -> tuple[str, int]:
    name, index = task["type"], task.get("index", 0)
    if not isinstance(name, str) or name not in cluster:
        hint = "; evaluate a finished run with `twin-tf evaluate`" if name == "evaluator" else ""
        raise ConfigError(f"TF_CONFIG's task type {name!r} is none of its cluster's ({', '.join(cluster)}){hint}")
    if isinstance(index, str) and index.isdecimal():
        index = int(index)  # as TensorFlow's own reader of TF_CONFIG takes it
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(cluster[name]):
        raise ConfigError(
            f"TF_CONFIG's task index {index!r} is out of range: the cluster has {len(cluster[name])} {name} tasks, "
            "counted from 0"
        )
    return name, index
