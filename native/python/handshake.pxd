# The interface of handshake.pyx.

from aiofastsocket._native.exchange cimport Exchange
from aiofastsocket._native.websocket cimport WebSocket


cdef class Handshake(Exchange):
    cdef WebSocket socket  # once it is accepted
    cdef bint told  # the application got websocket.connect
    cdef bytes accept_key
    cdef list extensions  # as the client offers them
    cdef int refusal  # the status of the refusal; 0: the request is valid
    cdef str reason
    cdef accept(self, message)
