"""evaluate: a model against rows it has never seen, as a report."""
