# cython: language_level=3, nonecheck=True
"""Server transports on the pump (fastsocket/pump.h): compiled, because everything in here is done
for each connection.

Rules:
- callbacks come from a turn of the loop only, never from inside a call of the protocol's own; but
  for pause_writing, which write() may call, as asyncio's does;
- between the moment an output is filled in and its result no Python code runs;
- a descriptor that the pump has closed is forgotten before any callback runs: its number may be
  somebody else's by then.

pump.pxi: turns and batches. connections.pxi: the server side of a listener. transport.pxi: one
connection.
"""

import os
import socket
import warnings
from asyncio import BufferedProtocol, Protocol
from asyncio.constants import _SendfileMode
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from contextvars import Context

cimport cython
from cpython.buffer cimport (
    PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE)
from cpython.contextvars cimport PyContext_Copy, PyContext_Enter, PyContext_Exit
from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport EAGAIN, EBADF, EINTR, errno
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close as close_fd

from core cimport *

cdef enum:  # sizes of arrays, which Cython has to know; Pump.__cinit__ compares them with pump.h's
    BATCH = 64
    PARTS = 16
    PEER = 28

include "pump.pxi"
include "connections.pxi"
include "transport.pxi"
