"""Stub."""


def write_report(directory: str) -> list[str]:
    """Nothing yet."""
    return []
