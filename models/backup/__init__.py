"""Backups of a home while Parley runs, and how to restore them: `create_backup` and `restore_backup`.

`archive` is the file, `contents` lists the files that belong in it, `databases` copies and restores the database;
`create` and `restore` use them. docs/backup.md is the operator's guide.
"""
