"""Raw logs to prepared data: importers of public data sets and the Apache Beam pipelines. Needs the extra `beam`."""

import logging


def _not_about_apitools(record: logging.LogRecord) -> bool:
    """False for the warning that importing Beam logs wherever its Google Cloud extra is not installed."""
    return "apitools not found" not in record.getMessage()


logging.getLogger().addFilter(_not_about_apitools)
