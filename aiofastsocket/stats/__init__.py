"""The `aiofastsocket stats` command. command: the values that it shows, and their format."""
