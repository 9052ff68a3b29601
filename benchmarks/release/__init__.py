"""Section D of the project's targets: how often the release decision is right, by simulation."""
