"""Draws every figure of the documentation: `python docs/figures/draw.py [folder] [suffix]`, or `make figures`.

A figure is a function of the module beside this one. Figures of results are drawn from `results.yaml` alone.
"""

import importlib
import sys
from pathlib import Path

FIGURES = {
    "system": "system",
    "rooms": "system",
    "user_major": "concepts",
    "gsu_esu": "concepts",
    "projection_table": "concepts",
    "clusters": "concepts",
    "results": "results",
}
"""Figure and its function -> the module that has it."""


def draw(folder: Path, suffix: str = "svg") -> None:
    """Writes all figures into `folder`."""
    here = Path(__file__).parent
    sys.path[:0] = [str(here), str(here.parents[1])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in FIGURES.items():
            getattr(importlib.import_module(module), name)().save(folder / f"{name}.{suffix}")
    finally:
        del sys.path[:2]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    draw(Path(arguments[0]) if arguments else Path(__file__).parent, *arguments[1:2])
