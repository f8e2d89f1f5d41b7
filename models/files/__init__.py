"""Files: atomic publication on disk, uploaded files, uploads in parts, and the kinds of files."""
