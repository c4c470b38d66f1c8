# cython: language_level=3
"""The awaitables that `receive()` and `send()` return. They behave like coroutines in the ways that
applications use them (await, create_task, wait_for, gather, TaskGroup), at a third of the cost.

This relies on these facts:
- asyncio accepts a collections.abc.Coroutine as a coroutine: any object with __await__, send, throw
  and close;
- PyIter_Send, which resumes a coroutine for a task and (on CPython 3.11) for `await`, calls the
  type's am_send, or else tp_iternext. NULL without an exception is the end, with the result None;
- a task that gets an object with `_asyncio_future_blocking` set adds itself to its callbacks. That
  callback resumes the task, and must not run while another task runs.
"""

from asyncio import CancelledError, current_task

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.exc cimport PyErr_SetObject
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

cdef extern from *:
    """
    /* A class without async methods of its own shares its base's table: so each gets one. */
    static int fs_set_steps(PyTypeObject *type, sendfunc send, iternextfunc next)
    {
        PyAsyncMethods *own = PyMem_Calloc(1, sizeof *own);
        if (!own) {
            PyErr_NoMemory();
            return -1;
        }
        *own = *type->tp_as_async;
        own->am_send = send;
        type->tp_as_async = own;
        type->tp_iternext = next;
        PyType_Modified(type);
        return 0;
    }
    #define fs_send_slot(function) ((sendfunc)(function))
    """
    ctypedef int (*sendfunc)(PyObject *, PyObject *, PyObject **)
    ctypedef PyObject *(*iternextfunc)(PyObject *)
    sendfunc fs_send_slot(void *function)
    int fs_set_steps(PyTypeObject *type, sendfunc send, iternextfunc next) except -1


@cython.final
@cython.freelist(64)
cdef class Waiter:
    """A future without a result, which a task waits at: as much as asyncio.Task needs of one."""

    def __init__(self):
        raise TypeError("waiters are made by awaitables")

    @property
    def _asyncio_future_blocking(self):
        return self.blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        self.blocking = value

    @property
    def _loop(self):
        return self.loop

    def get_loop(self):
        """See asyncio.Future."""
        return self.loop

    def add_done_callback(self, callback, *, context=None):
        """See asyncio.Future. Only one callback is possible: the task's."""
        if self.over:
            self.loop.call_soon(callback, self, context=context)
            return
        if self.callback is not None:
            raise RuntimeError("a task waits here already")
        self.callback, self.context = callback, context

    def remove_done_callback(self, callback):
        """See asyncio.Future."""
        if self.callback is None or self.callback != callback:
            return 0
        self.callback = self.context = None
        return 1

    def cancel(self, msg=None):
        """See asyncio.Future."""
        if self.over:
            return False
        self.is_cancelled = True
        self.message = msg
        self.wake(False)
        return True

    def cancelled(self):
        """See asyncio.Future."""
        return self.is_cancelled

    def done(self):
        """See asyncio.Future."""
        return self.over

    def result(self):
        """Return None. Raises CancelledError if it was cancelled."""
        if self.is_cancelled:
            raise CancelledError() if self.message is None else CancelledError(self.message)

    def exception(self):
        """Return None. Raises CancelledError if it was cancelled."""
        self.result()

    cdef wake(self, bint at_once):
        """Resume the task: now if `at_once` and no task runs, else in the loop's next turn."""
        if self.over:
            return
        self.over = True
        callback, context = self.callback, self.context
        self.callback = self.context = None
        if callback is None:
            return
        if at_once and context is not None and current_task(self.loop) is None:
            PyContext_Enter(context)
            try:
                callback(self)
            finally:
                PyContext_Exit(context)
        else:
            self.loop.call_soon(callback, self, context=context)


@cython.final
cdef class Waiters:
    """Tasks that wait for one thing. A woken task checks by itself whether it is available."""

    def __init__(self, loop):
        self.loop = loop
        self.waiting = []

    cdef Waiter park(self):
        cdef Waiter waiter = Waiter.__new__(Waiter)
        waiter.loop = self.loop
        waiter.blocking = True
        self.waiting.append(waiter)
        return waiter

    cdef forget(self, Waiter waiter):
        """Remove a waiter: no task waits at it any more."""
        waiter.over = True
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    cdef wake(self, bint at_once):
        cdef Waiter waiter
        if not self.waiting:
            return
        waiting, self.waiting = self.waiting, []
        # With several, none runs at once: the first one may change the state for the next.
        for waiter in waiting:
            waiter.wake(at_once and len(waiting) == 1)


cdef class Source:
    """The base of objects whose messages receive() waits for."""

    cdef object take(self):
        """Take the next message, so that no other task gets it. None: there is none yet."""

    cdef wake(self, bint at_once):
        """Wake the waiting tasks: there may be a message now."""
        if self.waiters is not None:
            self.waiters.wake(at_once)


cdef int give(object what, PyObject **result) noexcept:
    """Set the result of a step, with a reference of its own."""
    Py_INCREF(what)
    result[0] = <PyObject *>what
    return RETURN


cdef class Awaitable:
    """The base of awaitables, with the interface of a coroutine."""

    cdef int step(self, object value, PyObject **result) except -1:
        """Run: NEXT with an object that the task waits at, or RETURN with the result. May raise."""
        return give(None, result)

    cdef object thrown(self, object error):
        """An exception was thrown in. Returns an object that the task waits at, or raises the
        exception, or StopIteration with the result."""
        raise error

    cdef object end(self):
        """Clean up: it is over, for any reason. Called once."""

    def __await__(self):
        return self

    def __iter__(self):  # like the result of a coroutine's __await__()
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """See generator.send."""
        cdef PyObject *result = NULL
        cdef int what = run(self, value, &result)
        got = <object>result
        Py_XDECREF(result)
        if what == NEXT:
            return got
        raise StopIteration(got)

    def throw(self, kind, value=None, trace=None):
        """See generator.throw."""
        if isinstance(kind, BaseException):
            value = kind
        elif not isinstance(value, BaseException):
            value = kind() if value is None else kind(value)
        if trace is not None:
            value = value.with_traceback(trace)
        if self.is_over:
            raise value
        self.enter()
        try:
            result = self.thrown(value)
        except BaseException:
            self.runs = False
            self.over()
            raise
        self.runs = False
        return result

    def close(self):
        """See generator.close."""
        if not self.is_over:
            self.enter()
            self.runs = False
            self.over()

    cdef int enter(self) except -1:
        if self.runs:
            raise ValueError("coroutine already executing")
        self.runs = True
        return 0

    cdef over(self):
        self.is_over = True
        self.end()

    # Used by a task's repr() and by the stacks of tasks.

    @property
    def __name__(self):
        return type(self).__name__.lower()

    @property
    def __qualname__(self):
        return self.__name__


cdef int run(Awaitable self, object value, PyObject **result) except -1:
    cdef int what
    if self.is_over:
        raise RuntimeError("cannot reuse already awaited coroutine")
    self.enter()
    try:
        what = self.step(value, result)
    except BaseException:
        self.runs = False
        result[0] = NULL  # a task looks there first
        self.over()
        raise
    self.runs = False
    if what == RETURN:
        self.over()
    return what


# -- the slots --

cdef int send_slot(PyObject *self, PyObject *value, PyObject **result) except -1:
    result[0] = NULL
    return run(<Awaitable>self, <object>value, result)


cdef PyObject *next_slot(PyObject *self) except? NULL:
    cdef PyObject *result = NULL
    cdef int what = run(<Awaitable>self, None, &result)
    if what == NEXT:
        return result
    if result != <PyObject *>None:
        PyErr_SetObject(StopIteration, <object>result)
    Py_XDECREF(result)
    return NULL


cdef int set_steps(type kind) except -1:
    """Set the slots of a class of awaitables. Call it for each class: slots are not inherited."""
    return fs_set_steps(<PyTypeObject *>kind, fs_send_slot(<void *>send_slot), <iternextfunc>next_slot)


# -- the kinds --

@cython.final
cdef class Done(Awaitable):
    """Has nothing to wait for. All calls share one object: it is never over."""

    cdef over(self):
        pass


cdef int done_send(PyObject *self, PyObject *value, PyObject **result) except -1:
    return give(None, result)


cdef PyObject *done_next(PyObject *self) except? NULL:
    return NULL


@cython.final
cdef class Failed(Awaitable):
    """Raises its error when it is awaited, as a coroutine would."""

    cdef object error

    cdef int step(self, object value, PyObject **result) except -1:
        error, self.error = self.error, None
        raise error


@cython.final
cdef class OneTurn(Awaitable):
    """Lets the loop turn once, so that others run first."""

    cdef bint begun

    cdef int step(self, object value, PyObject **result) except -1:
        give(None, result)
        if self.begun:
            return RETURN
        self.begun = True
        return NEXT


@cython.final
cdef class Receive(Awaitable):
    """Returns the next message of a source. It takes the message only when it is awaited."""

    cdef Source source
    cdef Waiter waiter

    cdef int step(self, object value, PyObject **result) except -1:
        message = self.source.take()
        if message is not None:
            return give(message, result)
        if self.source.waiters is None:
            self.source.waiters = Waiters(self.source.loop)
        if self.waiter is not None:
            self.source.waiters.forget(self.waiter)
        self.waiter = self.source.waiters.park()
        give(self.waiter, result)
        return NEXT

    cdef object end(self):
        if self.waiter is not None:
            self.source.waiters.forget(self.waiter)
        self.source = self.waiter = None


cdef object DONE = Done()


cdef Awaitable failed(error):
    """Make an awaitable that raises this error."""
    cdef Failed made = Failed.__new__(Failed)
    made.error = error
    return made


cdef Awaitable receive_from(Source source):
    """Make an awaitable that returns the source's next message."""
    cdef Receive made = Receive.__new__(Receive)
    made.source = source
    return made


cdef Awaitable one_turn():
    """Make an awaitable that lets the loop turn once."""
    return OneTurn.__new__(OneTurn)


fs_set_steps(<PyTypeObject *>Done, fs_send_slot(<void *>done_send), <iternextfunc>done_next)
for _kind in (Awaitable, Failed, OneTurn, Receive):
    set_steps(_kind)
