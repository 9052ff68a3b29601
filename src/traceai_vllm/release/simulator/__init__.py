"""Traffic with known truths: to plan a release, to test the decision, and to measure how fast it is made."""
