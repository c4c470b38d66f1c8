"""The listen table.

view: reads a table, also of another program · histogram: the times that a table counts · table:
makes and changes a table · registry: finds a table by its socket · passing: pickles a table · part:
the sources that one thread accepts from · pulse: whether that thread waits or works · open: makes a
table over the backend in use.
"""
