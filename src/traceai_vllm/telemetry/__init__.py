"""What a request looks like in OpenTelemetry: names, tags, spans, metrics."""
