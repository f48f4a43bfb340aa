"""impute and score: what a table's model says of given rows."""
