"""What we lean on of other people's private names: asyncio's, uvloop's, selectors' and socket's.

They may change with any release, so all of them stand here with what we need each for, and
tests/structure/test_private.py asks a living object for each, and says which one is gone. What is
only used, not overridden, is a function here.
"""

import socket
import ssl
from typing import Any

SOCKET = {
    "_io_refs": "a table keeps its socket open, as file objects made of a socket do",
    "_decref_socketios": "... until the table is closed too",
}

POLICIES = {  # of Python 3.14 and 3.15
    "_DefaultEventLoopPolicy": "what ours is made of; the public name warns",
}

ATEXIT = {
    "_clear": "a forked worker does not end its parent",
    "_run_exitfuncs": "... but what its program has registered runs at its end",
}

SELECTOR = {
    "_selector": "the epoll object, in which local listeners are registered behind its back",
}

SELECTORS_MODULE = {
    "_BaseSelectorImpl": "its register and unregister keep and forget a key, and do nothing else",
}

SERVER = {
    "_loop": "which is to be ours",
    "_sockets": "that a table is made for, or that stay open because a table has them",
    "_backlog": "of the table",
    "_serving": "whether that was done",
    "_protocol_factory": "of connections",
    "_ssl_context": "of connections",
    "_ssl_handshake_timeout": "of connections",
    "_ssl_shutdown_timeout": "of connections",
    "_start_serving": "overridden: a table in place of listen(2)",
    "_attach": "a server with connections is not closed yet",
    "_detach": "... until the last one is over",
}

LOOP = {
    "_start_serving": "overridden: what asyncio's server asks for each socket",
    "_stop_serving": "overridden: the same at its end",
    "_selector": "asyncio's loop runs on our selector",
    "_ready": "what a forked child must not run of its parent's",
    "_signal_handlers": "whether signals wake the loop",
    "_csock": "... through this, which a forked child needs anew",
    "_close_self_pipe": "the same",
    "_make_self_pipe": "the same",
    "_debug": "create_server asks for it",
    "_ensure_resolved": "create_server, which uvloop's loop borrows, asks for it",
    "_create_server_getaddrinfo": "the same",
    "_check_sendfile_params": "sendfile, which uvloop has not, asks for it",
    "_sendfile_fallback": "the same",
    "_sock_sendfile_fallback": "the same",
    "_sock_sendfile_native": "the same",
    "_sock_sendfile_native_impl": "the same",
    "_sock_sendfile_update_filepos": "the same",
    "_sock_add_cancellation_callback": "the same",
}

TRANSPORT = {
    "_make_empty_waiter": "asyncio's sendfile waits until all is written",
    "_reset_empty_waiter": "the same",
    "_sock": "asyncio's sendfile writes to it",
    "_sendfile_compatible": "whether sendfile may be used",
    "_start_tls_compatible": "whether start_tls may be used",
    "_force_close": "a transport that failed",
}

STREAM_PROTOCOL = {
    "_stream_reader": "start_tls looks for bytes that came before it",
}

STREAM_READER = {
    "_buffer": "the bytes",
}

SSL_MODULE = {
    "_test_decode_cert": "the names and the end of a certificate in a file",
}

PARSER = {
    "_actions": "what shells complete: the options",
}

SUBPARSERS = {
    "_choices_actions": "... and the commands, with their help",
}

ARGPARSE = {
    "_SubParsersAction": "the commands among the arguments",
}

UVLOOP = {
    "_get_backend_id": "libuv's epoll set, for EPOLLEXCLUSIVE",
}

UVLOOP_MODULE = {
    "libuv_get_loop_t_ptr": "libuv's loop, for what uvloop does not offer (_native/libuv.py)",
}


def decode_certificate(path: str) -> Any:
    """What ssl.SSLSocket.getpeercert tells, of the first certificate in a file. Raises
    ssl.SSLError."""
    return ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]


def keep_open(sock: socket.socket) -> None:
    """From now on its close() leaves it open, until `let_close`; both are counted."""
    sock._io_refs += 1  # type: ignore[attr-defined]


def let_close(sock: socket.socket) -> None:
    """Undo one `keep_open`, and close it if close() was called meanwhile."""
    sock._decref_socketios()  # type: ignore[attr-defined]
