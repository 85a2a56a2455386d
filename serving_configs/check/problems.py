"""Every problem of a folder of serving configurations."""

from pathlib import Path

from serving_configs.check import agreement, monitoring
from serving_configs.check.configs import read


def problems(folder: Path) -> list[str]:
    """Every problem of the folder: those of single files, or, if there are none, what does not agree between them."""
    configs, wrong = read(folder)
    if wrong:
        return wrong
    return [problem for check in agreement.CHECKS + monitoring.CHECKS for problem in check(configs)]
