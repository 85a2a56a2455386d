"""The page about clustered histories shows what was compressed, and says where nothing was."""

import json
from pathlib import Path

import numpy as np

from beam_pipelines.clustering.cluster_report import FIGURE, PAGE, ClusterStatistics, compression, write_page


def statistics(sizes: list[list[int]]) -> ClusterStatistics:
    """Of histories whose entries stand for so many behaviours."""
    found = ClusterStatistics()
    for counts in sizes:
        packed = {"history/count": np.array(counts, np.uint8).tobytes()}
        found.add(packed, len(counts), sum(counts), 1)
    return found


def page_of(root: Path, sizes: list[list[int]]) -> str:
    source = {
        "settings": {"completion": "", "groups": 1, "gamma": 20, "exponent": 0.2, "recent": 50},
        "weights_version": 1, "checkpoint": "checkpoint", "moments": [1], "items_without_embedding": 0,
    }  # fmt: skip
    content = {"source": source, "splits": {"histories": statistics(sizes).to_plain()}}
    (root / "clusters.json").write_text(json.dumps(content))
    write_page(str(root), "my_shop")
    return (root / PAGE).read_text()


def test_what_was_not_compressed_is_not_drawn(tmp_path: Path) -> None:
    for sizes in ([], [[1, 1, 1], [1]]):
        assert compression(statistics(sizes).to_plain()) is None
        text = page_of(tmp_path, sizes)
        assert FIGURE not in text and "**Nothing was compressed:**" in text
        assert not (tmp_path / FIGURE).exists()


def test_what_was_compressed_is_drawn(tmp_path: Path) -> None:
    text = page_of(tmp_path, [[1, 3, 1], [1] * 120 + [40, 40]])
    assert FIGURE in text and "Nothing was compressed" not in text
    assert (tmp_path / FIGURE).read_bytes().startswith(b"\x89PNG")
    figure = compression(statistics([[1, 3, 1], [1] * 120 + [40, 40]]).to_plain())
    assert figure is not None
    left, right = figure.axes
    assert [bar.get_height() for bar in left.patches] == [3 / 5, 122 / 200]
    assert len(right.patches) == 40  # sizes 1 to 40
