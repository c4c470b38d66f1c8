# The interface of inline.pyx.

from aiofastsocket._native.wsgi cimport Caller


cdef class Inline(Caller):
    pass
