/* SPDX-License-Identifier: MIT
 *
 * The pump: connections in batches. One call accepts and receives, one sends and closes. Between
 * the two, the caller looks at the bytes, because it knows their meaning. There are no callbacks
 * and no locks: a caller with an interpreter lock gives it up around each call.
 *
 * The pump lives in an epoll set of its own, nested in the set that the program waits on
 * (fs_pump_fd), with connections only. An exclusive waiter in a nested set would wake all processes
 * (fs/eventpoll.c), so the caller waits for listeners itself.
 */
#ifndef FASTSOCKET_PUMP_H
#define FASTSOCKET_PUMP_H

#include <fastsocket/fs.h>
#include <sys/uio.h>

#define FS_PUMP_BATCH 64 /* most connections in one call */
#define FS_PUMP_PEER  28 /* bytes of a client's address: a struct sockaddr_in6 */
#define FS_PUMP_PARTS 16 /* pieces of one output that go out in one sendmsg(2) */

struct fs_pump;

/* How a connection is polled for reading. */
enum fs_read {
    FS_READ_NOT,     /* not polled */
    FS_READ_RECEIVE, /* polled, and received into the pump's memory */
    FS_READ_REPORT,  /* polled and reported: the caller receives where it wants the bytes */
};

/* The result of a call for one connection; `data` is valid until the next call. */
struct fs_input {
    void *owner;    /* as given when it was watched; NULL: just accepted */
    int fd;         /* non-blocking, close-on-exec; the caller's from now on */
    bool readable;  /* FS_READ_REPORT: there are bytes, the end, or an error */
    bool writable;  /* the rest of an output may be sent */
    bool received;  /* recv(2) was called */
    int result;     /* of recv(2): bytes, 0 for the end, or -errno */
    int64_t waited; /* ns that first bytes waited, fs_receive_first; -1: later ones, or unknown */
    const char *data;
    socklen_t peer_length; /* as accept(2) gave it; may be more than fits */
    unsigned char peer[FS_PUMP_PEER];
};

/* The instructions for one connection, and their result. */
struct fs_output {
    int fd;
    void *owner;
    const struct iovec *parts; /* sent in this order */
    uint32_t count;            /* number of parts; only the first FS_PUMP_PARTS are looked at */
    enum fs_read read;
    bool unheard;   /* nothing was received yet: the wait of its first bytes is measured */
    bool more;      /* there is more to send than these parts */
    bool end;       /* shutdown(2) of our direction once all is sent */
    bool close;     /* the connection is closed once all is sent */
    bool keep;      /* with `close`: the caller closes it, the pump only polls it no longer */
    bool full;      /* result: the kernel takes no more of these parts for now */
    bool done;      /* result: all was sent, and `end` or `close`, if set, is done */
    ssize_t result; /* result: bytes sent; or -errno: it is no longer polled, and still open */
};

int fs_pump_open(struct fs_pump **out);
/* Watched connections stay open, and belong to the caller. */
void fs_pump_free(struct fs_pump *pump);
/* From now on, count the bytes received and sent in `bytes`; NULL: no longer. */
void fs_pump_count(struct fs_pump *pump, uint64_t bytes[2]);
/* Readable while fs_pump_poll has something to report. */
int fs_pump_fd(const struct fs_pump *pump);
/* In a forked child: make an epoll set of its own behind the same descriptor, with the same
 * watches. -EBADF: that descriptor was closed; the pump watches nothing any more, and can only be
 * freed. */
int fs_pump_renew(struct fs_pump *pump);

/* Accept up to `most` connections from one source of a table, as fs_table_accept does, and receive
 * the bytes that their clients have sent already (if the last clients had sent none, only try now
 * and then). Returns the number of connections in fs_pump_inputs. *error is the reason why there
 * are no more: 0 (`most` was reached), -EAGAIN, or -errno as accept(2). Errors of a single
 * connection that failed before the accept are passed over. nodelay: set TCP_NODELAY on each. */
int fs_pump_accept(struct fs_pump *pump, struct fs_table *table, int slot, int source, int most,
                   bool nodelay, int *error);

/* Collect the events of watched connections. Returns the number of connections in fs_pump_inputs.
 * *more: call again, before waiting for anything, for the connections that did not fit. */
int fs_pump_poll(struct fs_pump *pump, bool *more);

const struct fs_input *fs_pump_inputs(const struct fs_pump *pump);

/* Send, shut down, close or watch each connection, as its output says. A connection with unsent
 * data is watched for being writable. */
void fs_pump_flush(struct fs_pump *pump, struct fs_output *outputs, int count);

#endif
