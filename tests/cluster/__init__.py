"""The same figures from ClickHouse and from a Spark cluster: ``make cluster-test``."""
