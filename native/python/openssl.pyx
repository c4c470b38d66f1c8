# cython: language_level=3, auto_pickle=False
"""The use of OpenSSL for a connection's bytes, by the public names of Python's ssl module.

Rules:
- the SSL objects of a loop share two memory BIOs. A connection owns them during one call: its input
  is put in before, and its output is taken out after. They must not contain data of another
  connection. So a call during another call (from a callback of OpenSSL, for example for the
  server's name) is put off until the turn ends, and the rest of one call is discarded before the
  next;
- an SSL object gets whole records (RFC 8446, 5.1), one by one, except those of a handshake. So
  records that were not requested yet stay with the connection, and the SSL object wants more only
  if a record has no data.
"""

import ssl as python

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE

cdef object WantRead = python.SSLWantReadError
cdef object ZeroReturn = python.SSLZeroReturnError

cdef int RECORDS = 8  # written in one go: the transport below gets them together


@cython.final
cdef class Buffers:
    """The two memory BIOs of a loop's SSL objects."""

    def __init__(self):
        self.incoming = python.MemoryBIO()
        self.outgoing = python.MemoryBIO()

    cdef int enter(self) except -1:
        """Prepare a call of an SSL object."""
        if self.busy:
            raise AssertionError("another connection is in a call of OpenSSL")
        self.busy = True
        # The rest of a failed call, or of a user's own call of an SSL object.
        if self.incoming.pending:
            self.incoming.read()
        if self.outgoing.pending:
            self.outgoing.read()
        return 0

    cdef bytes leave(self):
        """End a call of an SSL object. Returns its output, None if it is empty."""
        self.busy = False
        return self.outgoing.read() if self.outgoing.pending else None


cdef class Secured(Timed):
    """A connection's SSL object. Each call leaves its error in `failure`."""

    cdef reply(self, bytes records):
        """Send the output of a call."""

    cdef broken(self, exc):
        """An exception that ends the loop was raised during a call."""

    cdef Py_ssize_t shaken(self, context, bytes records, bint server_side, hostname) except -2:
        """Continue the handshake. Returns the number of bytes after it, -1 if it is not over."""
        cdef Py_ssize_t unread = -1
        self.failure = None
        self.buffers.enter()
        try:
            if self.ssl is None:
                self.ssl = context.wrap_bio(
                    self.buffers.incoming, self.buffers.outgoing, server_side=server_side,
                    server_hostname=hostname)
            self.buffers.incoming.write(records)
            self.ssl.do_handshake()
            unread = self.buffers.incoming.pending
        except WantRead:
            pass
        except Exception as exc:
            self.failure = exc
        except BaseException as exc:
            self.broken(exc)
            raise
        finally:
            self.answer()
        return unread

    cdef bytes opened(self, bytes record, Py_ssize_t size):
        """Decrypt a record of that size: None if it has no data, empty if it is the last."""
        cdef bytes plain = None
        self.failure = None
        self.buffers.enter()
        try:
            self.buffers.incoming.write(record)
            plain = self.ssl.read(size)  # a record is longer than its data
        except WantRead:
            pass
        except ZeroReturn:
            plain = b""
        except Exception as exc:
            self.failure = exc
        except BaseException as exc:
            self.broken(exc)
            raise
        finally:
            self.answer()
        return plain

    cdef size_t sealed(self, Transport what) except? 0:
        """Encrypt some of a transport's data. Returns the number of encrypted bytes."""
        cdef size_t done = 0, count
        cdef int number
        self.failure = None
        self.buffers.enter()
        try:
            for number in range(RECORDS):
                if what.size == 0:
                    break
                count = self.ssl.write(piece_of(what))
                if what.gone:  # aborted meanwhile, by a callback of OpenSSL's or another thread
                    break
                what.consume(count)
                done += count
        except WantRead:
            pass
        except Exception as exc:
            self.failure = exc
        except BaseException as exc:
            self.broken(exc)
            raise
        finally:
            self.answer()
        return done

    cdef take_leave(self):
        """Send close_notify: nothing more is sent."""
        self.buffers.enter()
        try:
            self.ssl.unwrap()
        except Exception:  # it waits for the client's close_notify, or the connection is broken
            pass
        except BaseException as exc:
            self.broken(exc)
            raise
        finally:
            self.answer()

    cdef answer(self):
        written = self.buffers.leave()
        if written is not None:
            self.reply(written)


cdef object piece_of(Transport what):
    """The data of the next record: a piece of one part, or several parts together."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(what.head) - what.offset
    cdef Py_ssize_t i
    cdef list parts
    if size >= MOST_PLAIN or what.rest is None:
        if size == PyBytes_GET_SIZE(what.head) and size <= MOST_PLAIN:
            return what.head
        return memoryview(what.head)[what.offset:what.offset + MOST_PLAIN]
    parts = [what.head[what.offset:]]
    for i in range(what.cursor, len(what.rest)):
        parts.append(what.rest[i])
        size += PyBytes_GET_SIZE(what.rest[i])
        if size >= MOST_PLAIN:
            break
    return memoryview(b"".join(parts))[:MOST_PLAIN]
