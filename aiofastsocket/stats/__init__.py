"""`aiofastsocket stats`. command: what is shown, and how · kernel: what the kernel and our module
tell of listeners."""
