# The interface of environ.pyx.

from aiofastsocket._native.exchange cimport Exchange, Wire


cdef class Environs:
    cdef dict common  # the variables that all environments share
    cdef bint underscores
    cdef dict make(self, Exchange of, body)
    cdef object key_of(self, bytes name)
    cdef dict template(self, Wire wire)
