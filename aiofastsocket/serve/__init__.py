"""`aiofastsocket serve`: a supervisor and one worker a core, each on a slot of its own.

config: what was asked for · bind: addresses and their tables · target: the program to serve ·
worker: one process that serves · supervisor: the parent · demo: what is served without a target ·
machine: cores and cgroup · systemd: its protocols.
"""
