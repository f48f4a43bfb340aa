"""ingest: any source to a committed dataset."""
