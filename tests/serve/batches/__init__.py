"""`/v1/batches` over a real gateway, with the worker's jobs."""
