"""The registry of models and their aliases, new models, mapped names and shutdown dates."""
