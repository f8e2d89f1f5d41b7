"""A request on its way: let in, understood, sent, answered. `app` is the ASGI application, `relay` has the steps."""
