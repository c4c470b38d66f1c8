"""`--metrics`: what the service tells of itself to Prometheus.

process: the small process that answers, and how the supervisor has it · answer: the application
that it serves · collect: the metrics, each with its name, from pages, tables and the kernel.
"""
