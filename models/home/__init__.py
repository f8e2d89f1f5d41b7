"""A home, PARLEY_HOME: how it is created, the instance that runs from it, the page's secret."""
