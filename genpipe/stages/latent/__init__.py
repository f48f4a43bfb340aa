"""encode, reconstruct, anomaly, compress, cluster, classify, edit, interpolate: jobs on codes of rows."""
