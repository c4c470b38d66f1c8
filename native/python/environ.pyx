# cython: language_level=3
"""The environment of a request for a WSGI application (PEP 3333; RFC 3875, 4.1)."""

import sys

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Copy

from aiofastsocket._native.exchange cimport *
from aiofastsocket._native.wire cimport *

cdef extern from "Python.h":
    str PyUnicode_DecodeLatin1(const char *data, Py_ssize_t size, const char *errors)

cdef dict OWN_KEYS = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
cdef dict KEYS = dict(OWN_KEYS)
"""Variables of environments, by the header fields that they come from."""
cdef Py_ssize_t MOST_KEYS = 1024, LONGEST_KEY = 48


@cython.final
cdef class Environs:
    """Makes the environments. underscores: fields with an underscore in their name are passed on,
    although another name may become the same variable."""

    def __init__(self, Service service not None, bint multithread, bint underscores, file_wrapper):
        self.underscores = underscores
        self.common = {
            "SCRIPT_NAME": service.root_path,
            "SERVER_SOFTWARE": "aiofastsocket",
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": file_wrapper,
            "wsgi.input_terminated": True,  # the input ends with the body, chunked or not
        }

    cdef dict make(self, Exchange of, body):
        """Make the environment of a request. body: the wsgi.input."""
        cdef dict environ
        cdef bytes name, value
        cdef list fields = of.fields
        cdef Py_ssize_t i
        if of.wire.template is None:
            of.wire.template = self.template(of.wire)
        environ = PyDict_Copy(of.wire.template)
        if of.address is not of.wire.client and of.address is not None:
            environ["REMOTE_ADDR"] = of.address[0]
            environ["REMOTE_PORT"] = str(of.address[1])
        environ["wsgi.url_scheme"] = of.scheme
        environ["wsgi.input"] = body
        if of.service.tells_queue_time and of.waited >= 0:
            environ["aiofastsocket.queue_time"] = of.waited * 1e-9
        environ["REQUEST_METHOD"] = of.method
        environ["PATH_INFO"] = latin1(unquoted(of.path))
        environ["QUERY_STRING"] = latin1(of.query)
        target = of.path + b"?" + of.query if of.query else of.path
        environ["RAW_URI"] = environ["REQUEST_URI"] = latin1(target)
        environ["SERVER_PROTOCOL"] = f"HTTP/{of.version}"
        for i in range(0, len(fields), 2):  # names and values alternate: see Call
            name, value = fields[i], fields[i + 1]
            key = KEYS.get(name)
            if key is None:
                key = self.key_of(name)
                if key is None:
                    continue
            text = latin1(value)
            if key in environ:
                text = environ[key] + ("; " if name == b"cookie" else ",") + text
            environ[key] = text
        return environ

    cdef dict template(self, Wire wire):
        """The variables that all requests of a connection share."""
        environ = PyDict_Copy(self.common)
        server, client = wire.server, wire.client
        environ["SERVER_NAME"] = server[0] if server else "localhost"
        port = server[1] if server else None
        environ["SERVER_PORT"] = str(port) if port is not None else (
            "443" if wire.scheme == "https" else "80")
        environ["REMOTE_ADDR"] = client[0] if client else ""
        environ["REMOTE_PORT"] = str(client[1]) if client else ""
        if wire.scheme == "https" and wire.service.secure is not None:
            environ.update(wire.service.secure.environ(wire.transport.get_extra_info("ssl_object")))
        return environ

    cdef object key_of(self, bytes name):
        """The variable of a field; None: it has none. A name with underscores would become the
        variable of another field too, which a proxy has set or removed."""
        if b"_" in name and not self.underscores:
            return None
        key = "HTTP_" + name.decode("ascii").upper().replace("-", "_")
        if b"_" not in name and len(name) <= LONGEST_KEY:
            if len(KEYS) > MOST_KEYS:
                KEYS.clear()
                KEYS.update(OWN_KEYS)
            KEYS[name] = key
        return key


cdef str latin1(bytes data):
    return PyUnicode_DecodeLatin1(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL)
