"""train: a recipe and a dataset to a bundle."""
