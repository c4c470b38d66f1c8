"""The listen table.

view: reading one, for strangers too · histogram: times, as they are counted there · table: making
and changing one · registry: found again by its socket · passing: pickled · part: what one thread
accepts from · pulse: whether that thread waits or works · open: made over whichever backend there
is.
"""
