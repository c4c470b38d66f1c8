"""ASGI 3 over HTTP/1.1 and WebSocket, on httptools' parser and websockets' frames.

service: what a worker's connections have in common. connection: one TCP connection, its requests
in order. request: one request and its response. wire: the bytes of response heads.
"""
