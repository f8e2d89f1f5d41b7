"""The `parley` commands of this room that have subcommands: `parley keys` and `parley models`."""
