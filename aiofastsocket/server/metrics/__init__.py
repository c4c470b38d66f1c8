"""`--metrics`: the metrics of the service for Prometheus.

process: the small process that answers, as the supervisor sees it and from inside · answer: the
application that it serves · collect: the metrics, each with its name, from pages, tables and the
kernel.
"""
