/* SPDX-License-Identifier: MIT
 *
 * The program's listening sockets that have a listen table, from listen(2) to the last close(2).
 */
#ifndef FS_SHIM_LISTENER_H
#define FS_SHIM_LISTENER_H

#include <fastsocket/fs.h>
#include <stdatomic.h>

struct listener {
    _Atomic(struct fs_table *) table; /* NULL: not in use */
    int references;                   /* descriptors of the global listener in this process */
    bool asked_reuseport;             /* the program set SO_REUSEPORT itself */
    uint64_t cookie;                  /* SO_COOKIE: a descriptor's number may be used again */
    char name[64];                    /* its address, for people */
    struct grave *grave;              /* room for its table when it is closed */
    struct listener *next;
};

/* The listener behind a descriptor, or NULL: one look-up. */
struct listener *listener_of(int fd);
/* As listener_of, but checked: the descriptor may have been closed behind our back. */
struct listener *listener_check(int fd);

/* A listener's address as a person writes it, and its port. */
void listener_name(int fd, char *out, size_t size, unsigned *port);

/* Under the lock: take a table into use that was made, inherited or received. 0 or -ENOMEM. */
int listener_enter(int fd, struct fs_table *table, bool asked_reuseport);
/* Under the lock: `to` is a duplicate of `fd`. */
void listener_duplicate(int fd, int to);
/* Under the lock: `fd` is about to be closed. */
void listener_leave(int fd);
/* Under the lock: the listener has no local listeners from now on. */
void listener_dissolve(struct listener *listener);
/* Under the lock: dissolve the listener that descriptor `hidden` belongs to. */
void listener_dissolve_hidden(int hidden);
/* Under the lock: `hidden` was closed behind our back, and its number is in use again. */
void listener_lose_hidden(int hidden);

#endif
