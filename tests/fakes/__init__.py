"""Fake providers: servers on real sockets that implement a provider's API."""
