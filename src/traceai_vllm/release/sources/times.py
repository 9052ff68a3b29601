"""Times that a database keeps as such."""

from __future__ import annotations

from typing import Any

# What a database calls the time since the epoch, and how many nanoseconds its unit has: Ibis knows seconds alone.
_SINCE_EPOCH = {"clickhouse": ("toUnixTimestamp64Nano", 1), "duckdb": ("epoch_ns", 1), "pyspark": ("unix_micros", 1000)}


def nanoseconds(time: Any) -> Any:
    """Return the nanoseconds since the epoch of an Ibis timestamp; one without a zone is in UTC."""
    import ibis

    name, unit = _SINCE_EPOCH[time.get_backend().name]

    def since_epoch(time: Any) -> Any:
        """Stand for the database's own function."""

    function: Any = ibis.udf.scalar.builtin(name=name, signature=((time.type(),), "int64"))(since_epoch)
    return function(time) * unit
