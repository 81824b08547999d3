"""Model x Task -> Scorecard -> comparison."""
