"""What the evaluators get right, measured: section E of the targets."""
