"""What the apps' handlers work with: settings and database, streamed answers, model lists, uploaded files."""
