"""ASGI 3 and WSGI over HTTP/1.1, and WebSocket. The code that runs for each request is compiled
(native/python).

service: the state that a worker's connections share · failures: applications that fail · files: a
file as a body · deflate: compressed WebSocket messages · lifespan: the application's start and end
· config: the options of HTTP · secure: TLS as applications see it · proxies: the proxies whose
X-Forwarded fields are trusted · access: the access log.
"""
