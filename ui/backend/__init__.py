"""Shared by the apps' handlers: settings and database, streamed answers, model lists, uploaded files."""
