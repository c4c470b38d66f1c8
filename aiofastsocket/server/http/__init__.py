"""ASGI 3 over HTTP/1.1 and WebSocket, on httptools' parser and websockets' frames.

connection: one TCP connection, its requests in order · incoming: what a client sends becomes
requests · request, response: one exchange · websocket: one WebSocket · service: what a worker's
connections have in common · lifespan: the application's start and end · config: what was asked
for · proxies: whose X-Forwarded fields are believed · access: the log · deadlines: many timers in
one · scope: from a head to ASGI's scope · wire: the bytes of response heads.
"""
