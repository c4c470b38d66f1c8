"""`aiofastsocket stats`. command: what is shown, and how."""
