"""impute and likelihood: what a table's model says of given rows."""
