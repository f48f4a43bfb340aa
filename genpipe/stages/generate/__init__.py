"""generate: a model to a dataset of new rows."""
