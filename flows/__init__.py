"""The stages as Prefect flows: which step, with which retries, time limit, schedule and work pool."""
