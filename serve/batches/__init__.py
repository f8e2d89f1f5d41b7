"""`/v1/batches`: files of requests that the worker answers behind live traffic, as OpenAI's Batch API does."""
