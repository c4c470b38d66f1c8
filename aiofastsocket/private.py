"""The private names of other projects that we use: asyncio's, uvloop's, selectors' and socket's.

Any release may change them. So all of them are listed here, each with its use, and
tests/structure/test_private.py looks each one up on a real object and reports a missing name. Some
names that are only used, not overridden, have a function here.
"""

import socket
import ssl
from typing import Any

SOCKET = {
    "_io_refs": "a table keeps its socket open by it, as file objects of a socket do",
    "_decref_socketios": "a closed table lets its socket close by it",
}

POLICIES = {  # of Python 3.14 and 3.15
    "_DefaultEventLoopPolicy": "the base class of our policy; the public name warns",
}

ATEXIT = {
    "_clear": "a forked worker does not run the exit functions of its parent",
    "_run_exitfuncs": "a forked worker runs the exit functions that its program registered",
}

SELECTOR = {
    "_selector": "the epoll object, in which we register local listeners without the selector",
}

SELECTORS_MODULE = {
    "_BaseSelectorImpl": "its register and unregister only keep and forget a key",
}

SERVER = {
    "_loop": "the server's loop, which must be ours",
    "_sockets": "sockets that get a table, or that stay open because a table has them",
    "_backlog": "backlog of the table",
    "_serving": "whether the server has started to serve",
    "_protocol_factory": "makes the protocols of connections",
    "_ssl_context": "TLS context of connections",
    "_ssl_handshake_timeout": "TLS handshake timeout of connections",
    "_ssl_shutdown_timeout": "TLS shutdown timeout of connections",
    "_start_serving": "overridden: makes a table in place of listen(2)",
    "_attach": "a server with connections is not closed yet",
    "_detach": "a server is closed after its last connection has ended",
}

LOOP = {
    "_start_serving": "overridden: asyncio's server calls it for each socket",
    "_stop_serving": "overridden: asyncio's server calls it at the end of each socket",
    "_selector": "asyncio's loop runs on our selector",
    "_ready": "callbacks of the parent, which a forked child must not run",
    "_signal_handlers": "whether signals wake the loop",
    "_csock": "signals wake the loop by it; a forked child needs its own",
    "_close_self_pipe": "a forked child closes its parent's _csock",
    "_make_self_pipe": "a forked child makes its own _csock",
    "_debug": "asyncio's create_server reads it",
    "_ensure_resolved": "asyncio's create_server, which our uvloop loop borrows, calls it",
    "_create_server_getaddrinfo": "asyncio's create_server calls it",
    "_check_sendfile_params": "asyncio's sendfile, which uvloop lacks, calls it",
    "_sendfile_fallback": "asyncio's sendfile calls it",
    "_sock_sendfile_fallback": "asyncio's sendfile calls it",
    "_sock_sendfile_native": "asyncio's sendfile calls it",
    "_sock_sendfile_native_impl": "asyncio's sendfile calls it",
    "_sock_sendfile_update_filepos": "asyncio's sendfile calls it",
    "_sock_add_cancellation_callback": "asyncio's sendfile calls it",
}

TRANSPORT = {
    "_make_empty_waiter": "asyncio's sendfile waits until all is written",
    "_reset_empty_waiter": "asyncio's sendfile ends that wait",
    "_sock": "asyncio's sendfile writes to it",
    "_sendfile_compatible": "whether sendfile may be used",
    "_start_tls_compatible": "whether start_tls may be used",
    "_force_close": "ends a transport that failed",
}

STREAM_PROTOCOL = {
    "_stream_reader": "start_tls looks in the reader for bytes that came before it",
}

STREAM_READER = {
    "_buffer": "bytes that the stream has received but not read",
}

SSL_MODULE = {
    "_test_decode_cert": "decodes the names and the expiry date of a certificate in a file",
}

PARSER = {
    "_actions": "the options that shells complete",
}

SUBPARSERS = {
    "_choices_actions": "the commands that shells complete, with their help",
}

ARGPARSE = {
    "_SubParsersAction": "the commands among the arguments",
}

UVLOOP = {
    "_get_backend_id": "libuv's epoll set, for EPOLLEXCLUSIVE",
}

UVLOOP_MODULE = {
    "libuv_get_loop_t_ptr": "libuv's loop, for functions that uvloop lacks (_native/libuv.py)",
}


def decode_certificate(path: str) -> Any:
    """Decode the first certificate in a file, in the form of ssl.SSLSocket.getpeercert. Raises
    ssl.SSLError."""
    return ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]


def keep_open(sock: socket.socket) -> None:
    """Have the socket's close() leave it open until `let_close`. Both calls are counted."""
    sock._io_refs += 1  # type: ignore[attr-defined]


def let_close(sock: socket.socket) -> None:
    """Undo one `keep_open`, and close the socket if close() was called meanwhile."""
    sock._decref_socketios()  # type: ignore[attr-defined]
