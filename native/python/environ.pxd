# The interface of environ.pyx.

from aiofastsocket._native.exchange cimport Exchange, Wire


cdef class Environs:
    cdef dict common  # to all of them
    cdef bint underscores
    cdef dict make(self, Exchange of, body)
    cdef object key_of(self, bytes name)
    cdef dict template(self, Wire wire)
