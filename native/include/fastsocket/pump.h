/* SPDX-License-Identifier: MIT
 *
 * The pump: connections in batches. One call accepts and receives, one sends and closes; between
 * the two the caller, who knows what the bytes mean, looks at them. No callbacks, no locks: a
 * caller with an interpreter lock gives it up around each call.
 *
 * It lives in an epoll set of its own, nested in whatever the program waits on (fs_pump_fd), with
 * connections only: an exclusive waiter in a nested set would wake everybody (fs/eventpoll.c), so
 * listeners are the caller's to wait for.
 */
#ifndef FASTSOCKET_PUMP_H
#define FASTSOCKET_PUMP_H

#include <fastsocket/fs.h>
#include <sys/uio.h>

#define FS_PUMP_BATCH 64 /* connections that one call is about, at most */
#define FS_PUMP_PEER  28 /* bytes of a client's address: a struct sockaddr_in6 */
#define FS_PUMP_PARTS 16 /* pieces of one output that go out in one sendmsg(2) */

struct fs_pump;

/* How a connection is polled for reading. */
enum fs_read {
    FS_READ_NOT,     /* not at all */
    FS_READ_RECEIVE, /* and received into the pump's memory */
    FS_READ_REPORT,  /* and said so: the caller receives where it wants the bytes */
};

/* What a call brought of one connection; `data` is good until the next call. */
struct fs_input {
    void *owner;    /* as it was watched; NULL: just accepted */
    int fd;         /* non-blocking, close-on-exec; the caller's from now on */
    bool readable;  /* FS_READ_REPORT: there are bytes, the end, or an error */
    bool writable;  /* what was left of an output may go on */
    bool received;  /* recv(2) was called: */
    int result;     /* bytes, 0 for the end, or -errno */
    int64_t waited; /* of its first bytes, ns: fs_receive_first; -1: of later ones, or unknown */
    const char *data;
    socklen_t peer_length; /* as accept(2) gave it, maybe more than fits */
    unsigned char peer[FS_PUMP_PEER];
};

/* What is to become of one connection. */
struct fs_output {
    int fd;
    void *owner;
    const struct iovec *parts; /* to be sent, in this order */
    uint32_t count;            /* of parts; at most FS_PUMP_PARTS are looked at */
    enum fs_read read;
    bool unheard;   /* nothing was received yet: its first bytes tell how long they waited */
    bool more;      /* there is more to be sent than these parts */
    bool end;       /* shutdown(2) of our direction once all is sent */
    bool close;     /* it is closed once all is sent, */
    bool keep;      /* ... but by the caller: it is only polled no more */
    bool full;      /* result: the kernel takes no more of these parts for now */
    bool done;      /* result: all was sent, and what was asked for after it is done */
    ssize_t result; /* bytes sent, or -errno: then it is polled no more, and still open */
};

int fs_pump_open(struct fs_pump **out);
/* Connections that are watched stay open, and the caller's. */
void fs_pump_free(struct fs_pump *pump);
/* Count bytes there, received and sent, from now on; NULL: no more. */
void fs_pump_count(struct fs_pump *pump, uint64_t bytes[2]);
/* Readable while something is to be had by fs_pump_poll. */
int fs_pump_fd(const struct fs_pump *pump);
/* In a forked child: an epoll set of its own behind the same descriptor, with the same watches.
 * -EBADF: that descriptor was closed; the pump watches nothing any more, it is only to be freed. */
int fs_pump_renew(struct fs_pump *pump);

/* Accept up to `most` connections from one source of a table, as fs_table_accept, and receive what
 * their clients have sent already (where none of the last ones had, only try now and then). Returns
 * how many there are in fs_pump_inputs; *error is why there are no more: 0 (that was the most),
 * -EAGAIN, or -errno as accept(2). Errors that belong to one connection that never was are passed
 * over. nodelay: set TCP_NODELAY on each. */
int fs_pump_accept(struct fs_pump *pump, struct fs_table *table, int slot, int source, int most,
                   bool nodelay, int *error);

/* What watched connections have to say. Returns how many do; *more: call again, before anything
 * is waited for, for those that did not fit. */
int fs_pump_poll(struct fs_pump *pump, bool *more);

const struct fs_input *fs_pump_inputs(const struct fs_pump *pump);

/* Send, shut down, close, or have watched from now on, each as its output says. What is not sent
 * is watched for being writable. */
void fs_pump_flush(struct fs_pump *pump, struct fs_output *outputs, int count);

#endif
