"""A request on its way: let in, understood, sent, answered. `app` is the ASGI application, `inference_handler` has the steps."""
