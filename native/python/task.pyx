# cython: language_level=3
"""The task that an application runs in, for one request."""

import sys
from asyncio import Task
from inspect import isawaitable

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from aiofastsocket._native.awaitable cimport *

cdef extern from "Python.h":
    int PyIter_Send(PyObject *iterator, PyObject *value, PyObject **result) except -1
    bint PyCoro_CheckExact(object coroutine)

# Since 3.12, Python has tasks that run at once, with the right current_task().
cdef bint EAGER = sys.version_info >= (3, 12)


cdef class Served(Source):
    """The base of objects that an application is run for."""

    cdef object called(self):
        """Call the application. Returns an awaitable."""

    cdef object heed(self, message):
        """See Exchange.send."""

    cdef finished(self, error):
        """The application has ended."""

    cdef abandoned(self):
        """The application will not be resumed."""


cdef object task_for(Served exchange, loop, context, str name):
    """Run the application from now on, or (before Python 3.12) from the next turn. None: it has
    already ended. name: the task's; without one, asyncio would make a name."""
    cdef Run run = Run.__new__(Run)
    run.exchange = exchange
    if EAGER:
        task = Task(run, loop=loop, context=context, name=name, eager_start=True)
    else:
        task = Task(run, loop=loop, context=context, name=name)
    return None if run.is_over else task


@cython.final
cdef class Run(Awaitable):
    """The coroutine of a request's task: it runs the application's, and handles its end."""

    cdef int step(self, object value, PyObject **result) except -1:
        cdef Served exchange = self.exchange  # held: `self` may lose it meanwhile
        cdef PyObject *got
        cdef int what
        try:
            application = self.application
            if application is None:
                application = self.application = going(exchange.called())
            what = PyIter_Send(<PyObject *>application, <PyObject *>value, result)
        except BaseException as error:
            self.finish(error)
            return give(None, result)
        if what == NEXT:
            return NEXT
        got, result[0] = result[0], NULL
        Py_DECREF(<object>got)
        self.finish(None)
        return give(None, result)

    cdef object thrown(self, object error):
        try:
            if self.application is None:
                raise error
            return self.application.throw(error)
        except StopIteration:
            self.finish(None)
        except BaseException as caught:
            self.finish(caught)
        raise StopIteration

    cdef object finish(self, error):
        self.application = None
        exchange, self.exchange = self.exchange, None
        (<Served>exchange).finished(error)

    cdef object end(self):
        application, self.application = self.application, None
        exchange, self.exchange = self.exchange, None
        if application is not None:  # it will not be resumed
            (<Served>exchange).abandoned()
            application.close()

    # The attributes of the application's coroutine, for tools that inspect tasks.

    @property
    def __name__(self):
        return getattr(self.application, "__name__", "request")

    @property
    def __qualname__(self):
        return getattr(self.application, "__qualname__", "request")

    @property
    def cr_frame(self):
        return getattr(self.application, "cr_frame", None)

    @property
    def cr_running(self):
        return getattr(self.application, "cr_running", False)

    @property
    def cr_code(self):
        return getattr(self.application, "cr_code", None)

    @property
    def cr_state(self):  # since Python 3.15
        if self.application is None:
            return "CORO_CLOSED" if self.is_over else "CORO_CREATED"
        return self.application.cr_state

    @property
    def cr_suspended(self):
        return getattr(self.application, "cr_suspended", False)

    @property
    def cr_await(self):
        return getattr(self.application, "cr_await", None)


cdef object going(awaitable):
    """The object that PyIter_Send resumes."""
    if PyCoro_CheckExact(awaitable):
        return awaitable
    try:
        begin = type(awaitable).__await__
    except AttributeError:
        if isawaitable(awaitable):  # a generator of types.coroutine
            return awaitable
        raise TypeError(
            f"the application returned {awaitable!r}, which cannot be awaited") from None
    return begin(awaitable)


@cython.final
cdef class Later(Awaitable):
    """send() from a thread other than the loop's. It runs in the loop, when it is awaited."""

    cdef Served exchange
    cdef object message
    cdef object waits

    cdef int step(self, object value, PyObject **result) except -1:
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            self.waits = (<Served>exchange).heed(self.message)
        return PyIter_Send(<PyObject *>self.waits, <PyObject *>value, result)

    cdef object thrown(self, object error):
        if self.waits is None:
            raise error
        return self.waits.throw(error)


cdef object later(Served exchange, message):
    cdef Later made = Later.__new__(Later)
    made.exchange, made.message = exchange, message
    return made


set_steps(Later)
set_steps(Run)
