"""The `parley` commands of this room with options of their own: `models`, `keys`, `backup`, `restore` and `audit`."""
