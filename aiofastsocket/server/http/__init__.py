"""ASGI 3 over HTTP/1.1 and WebSocket. What is done for each request is compiled (native/python).

service: what a worker's connections have in common · failures: how an application's run ends, if
not well · files: a file as a body · deflate: compressed WebSockets · lifespan: the application's
start and end · config: what was asked for · secure: TLS as applications see it ·
proxies: whose X-Forwarded fields are believed · access: the log.
"""
