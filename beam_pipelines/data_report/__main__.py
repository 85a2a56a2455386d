"""`python -m beam_pipelines.data_report`."""

import sys

from beam_pipelines.data_report.report import main

if __name__ == "__main__":
    sys.exit(main())
