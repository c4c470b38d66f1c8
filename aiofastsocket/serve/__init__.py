"""`aiofastsocket serve`: a supervisor and one worker a core, each on a slot of its own.

config: what was asked for · bind: addresses and their tables · target: the program to serve ·
worker: one process that serves · child: how its parent has it · supervisor: that parent ·
demo: what is served without a target · machine: cores and cgroup · systemd: its protocols ·
run: all of it together.
"""
