"""Histories become clusters (TWIN-V2)."""
