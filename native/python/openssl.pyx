# cython: language_level=3, auto_pickle=False
"""What OpenSSL makes of a connection's bytes, by the public names of Python's ssl module.

Rules:
- the SSL objects of a loop share their two memory BIOs, which are a connection's while it is in one
  call: what it wants to read is put in before, and what it has written is taken out after. Nothing
  that is another's may be in there meanwhile: so a call that comes while another is under way (from
  a callback of OpenSSL's, as for the server's name) is put off until the turn ends, and whatever is
  left of one is thrown away before the next;
- an SSL object is given whole records (RFC 8446, 5.1), one by one, but for those of a handshake. So
  what it has not been asked for yet stays with the connection, and it says that it wants more only
  where a record has no data.
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
        """Before a call of an SSL object."""
        if self.busy:
            raise AssertionError("another connection is in a call of OpenSSL")
        self.busy = True
        # What is left of a call that failed, or of a user's who called an SSL object.
        if self.incoming.pending:
            self.incoming.read()
        if self.outgoing.pending:
            self.outgoing.read()
        return 0

    cdef bytes leave(self):
        """After it. Returns what it has written, None if that is nothing."""
        self.busy = False
        return self.outgoing.read() if self.outgoing.pending else None


cdef class Secured(Timed):
    """A connection's SSL object. Each call leaves in `failure` what went wrong."""

    cdef reply(self, bytes records):
        """A call has written this."""

    cdef broken(self, exc):
        """What ends the loop came in the middle of a call."""

    cdef Py_ssize_t shaken(self, context, bytes records, bint server_side, hostname) except -2:
        """Go on with the handshake. Returns the bytes behind it, -1 if it is not over."""
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
        """The data of a record of that size: None if it has none, empty if it is the last."""
        cdef bytes plain = None
        self.failure = None
        self.buffers.enter()
        try:
            self.buffers.incoming.write(record)
            plain = self.ssl.read(size)  # a record is longer than what is in it
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
        """Make some records of what a transport has to send. Returns how many bytes are in them."""
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
        """Say that nothing more is sent."""
        self.buffers.enter()
        try:
            self.ssl.unwrap()
        except Exception:  # it wants the client's word; or the connection is of no use any more
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
    """What goes into the next record: part of what was written, or the parts together."""
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
