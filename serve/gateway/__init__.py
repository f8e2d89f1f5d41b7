"""A request from arrival to response: authorization, queues, dispatch, fallbacks. `app` is the ASGI application."""
