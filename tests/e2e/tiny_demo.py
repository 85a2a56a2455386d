"""The demo at the smallest size, as a process: `python -m tests.e2e.tiny_demo <workdir> <configuration>`.

`TINY_DEMO_BREAK=predict` lets the step of that name fail.
"""

import os
import sys
from pathlib import Path

from tests.e2e.forked_steps import ForkedSteps
from twin_tf.experiments import demo
from twin_tf.experiments.shipped_data import ShippedData

SIMULATED = {
    "users": 30, "days": 40, "items": 400, "topics": 40, "median_history": 60, "max_history": 150, "targets": 1500,
    "explore": 0.2, "target_share": 0.4, "seed": 3,
}  # fmt: skip


def tiny(config: str) -> demo.Demo:
    """The demo on simulated logs of thirty users."""
    settings = [part for name, value in SIMULATED.items() for part in ("--set", f"{name}={value}")]
    data = ShippedData("few logs", config, ("simulate", *settings), "beam_pipelines.simulate_logs", "topic")
    return demo.Demo(data, (demo.TWIN, demo.DIN))


def main() -> None:
    """Runs it as `python -m twin_tf.experiments.demo` would."""
    workdir, config = sys.argv[1:3]
    demo.DEMOS["tiny"] = tiny(config)
    demo.main.params[0].type.choices = ["tiny"]  # type: ignore[attr-defined]
    demo.Steps = ForkedSteps  # type: ignore[misc]
    broken = os.environ.get("TINY_DEMO_BREAK")
    if broken:
        run = demo.Steps.run

        def fails(self: demo.Steps, name: str, *arguments: str) -> demo.JsonDict:
            return run(self, name, *arguments, *(["--label", "nobody"] if name == broken else []))

        demo.Steps.run = fails  # type: ignore[method-assign]
    demo.main(["--data", "tiny", "--workdir", str(Path(workdir)), *sys.argv[3:]])


if __name__ == "__main__":
    main()
