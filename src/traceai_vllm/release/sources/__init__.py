"""Where spans come from: each source is brought to the one table of :mod:`traceai_vllm.release.columns`."""

from traceai_vllm.release.sources.location import without_password
from traceai_vllm.release.sources.opening import open_source
from traceai_vllm.release.sources.source import Source, SourceError

__all__ = ["Source", "SourceError", "open_source", "without_password"]
