"""The registry of models and their aliases, new models, stand-ins and shutdown dates."""
