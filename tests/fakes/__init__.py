"""Fakes of the clouds: programs on a real socket that speak a provider's protocol, where the real one cannot be had."""
