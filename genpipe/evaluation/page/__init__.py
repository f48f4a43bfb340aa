"""The report as a page for people: charts, pictures, tables."""
