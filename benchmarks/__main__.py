"""Runs the benchmarks, as `make bench` does; the options are those of ``benchmarks.engine``."""

import sys

from benchmarks.engine.__main__ import main

sys.exit(main())
