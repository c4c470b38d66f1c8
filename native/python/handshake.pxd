# The interface of handshake.pyx.

from aiofastsocket._native.exchange cimport Exchange
from aiofastsocket._native.websocket cimport WebSocket


cdef class Handshake(Exchange):
    cdef WebSocket socket  # once it is accepted
    cdef bint told  # of the connection
    cdef bytes accept_key
    cdef list extensions  # as the client offers them
    cdef int refusal  # a status; 0: it is a good one
    cdef str reason
    cdef accept(self, message)
