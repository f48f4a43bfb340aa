"""The codec of tables: columns behind relations."""
