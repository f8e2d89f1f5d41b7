"""Backups of a home while Parley runs, and their restoration: `create_backup` and `restore_backup`.

`archive` is the file, `contents` says what of a home belongs in it, `databases` copies and restores the database;
`create` and `restore` use them. docs/backup.md is the operator's guide.
"""
