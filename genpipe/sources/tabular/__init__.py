"""Tables from files: CSV, JSON Lines and Parquet."""
