/* SPDX-License-Identifier: MIT
 *
 * fs_core: the channel to the kernel and the listen table. serve, the loops and the preload library
 * share it.
 *
 * Rules of every function here: it returns 0 (or a descriptor, index or count) on success and
 * -errno on failure; there is no global state; no allocation survives a failed call. Every process
 * that inherited a table by fork may use it; the state that these processes share lives in the
 * table's page.
 */
#ifndef FASTSOCKET_FS_H
#define FASTSOCKET_FS_H

#include "version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define FS_WHY_MAX 192 /* bytes of a reason, with its NUL */
/* Most slots of one table: each needs at most six of the 4096 instructions of a BPF program
 * (linux/bpf_common.h). */
#define FS_SLOTS_MAX 512
#define FS_GLOBAL    (-1) /* instead of a slot number: the global listener */
/* The number of siblings' slots that a thread watches in addition to its own. Each connection
 * visits every busy waiter in line, so there must not be too many. But where workers take one
 * connection at a time, only the threads that watch its slot find a waiting connection. */
#define FS_SIBLINGS  16
#define FS_ANY_SLOT  (-1) /* fs_table_claim: any free slot */
#define FS_UNCOUNTED (-1) /* instead of a number of connections: unknown */
/* Flags of fs_table_options.flags: */
#define FS_FIRST_IS_SLOT 0x1u /* slot 0 is the global listener itself */
/* The process that makes the table supervises the processes that serve it. It alone decides on
 * steering and reviews it, and it restores an invalid page from its own ledger (info.restored). */
#define FS_SUPERVISED 0x2u
/* The processes that serve the table also look after slots that no thread has claimed. So where the
 * kernel takes no steering program, its own hash over all slots is good enough; without the flag
 * the listener is shared there. */
#define FS_HASH_WILL_DO 0x4u
/* Connections carry the time when the kernel received their first bytes (SO_TIMESTAMPNS), and the
 * process that accepts them reads it with fs_receive_first. Without the flag, fs_table_accept
 * itself asks the kernel, for one connection in 32. */
#define FS_TIMED 0x8u

enum fs_backend { FS_BACKEND_AUTO, FS_BACKEND_DEVICE, FS_BACKEND_REUSEPORT, FS_BACKEND_OFF };
/* HASH is never requested: the kernel takes no steering program and hashes over all slots. */
enum fs_steer { FS_STEER_AUTO, FS_STEER_CPU, FS_STEER_SPREAD, FS_STEER_HASH };

/* gettid(2), which glibc has since 2.30. */
pid_t fs_thread_id(void);

/* ---- sockets ------------------------------------------------------------------------------- */

/* SO_COOKIE, socket(7): identifies the socket, because descriptor numbers are used again. 0: the
 * socket has none. */
uint64_t fs_socket_cookie(int fd);
/* The value of an int option, or -errno. */
int fs_socket_option(int fd, int level, int name);
bool fs_socket_listens(int fd);
/* recv(2) of the first bytes of a connection of a timed table (FS_TIMED). *waited: nanoseconds
 * since the kernel received them (the last of them, if they came in pieces); -1: the kernel does
 * not tell. The clock is CLOCK_REALTIME: if it is set meanwhile, *waited is wrong by the same
 * amount, but never below 0. */
ssize_t fs_receive_first(int fd, void *data, size_t size, int64_t *waited);

/* ---- times --------------------------------------------------------------------------------- */

/* Eight buckets per power of two of microseconds, up to 134 s; the last bucket holds all longer
 * times. */
#define FS_BUCKETS 200

struct fs_histogram {
    uint64_t sum; /* ns */
    uint64_t count[FS_BUCKETS];
};

/* All times in a bucket are shorter than this number of microseconds (those in the last bucket may
 * be longer). */
uint64_t fs_bucket_end(uint32_t bucket);
/* May be called from any thread of any process that maps the memory. */
void fs_histogram_add(struct fs_histogram *histogram, uint64_t ns);
void fs_histogram_read(const struct fs_histogram *histogram, struct fs_histogram *out);

/* The accept queues of the TCP listeners of this network namespace, by cookie. fs_queues returns
 * the number of listeners, of which the first `room` are in `out`. limit: listen(2)'s backlog, as
 * far as somaxconn allows. */
struct fs_queue {
    uint64_t cookie;
    uint32_t length;
    uint32_t limit;
};
int fs_queues(struct fs_queue *out, uint32_t room);

/* ---- the listen table ---------------------------------------------------------------------- */

struct fs_table;

/* The number of slots for a maker that does not know which processes will serve: two per core that
 * this process may run on, because a reload runs two generations, and at least eight, because
 * programs start more processes than there are cores. A slot that no thread claims costs a
 * descriptor and no time. */
uint32_t fs_default_slots(void);

struct fs_table_options {
    uint32_t slots;   /* slots to make; 0: none, the listener is shared as it is */
    uint32_t records; /* claims that a table without slots can tell apart */
    int backlog;      /* listen(2) */
    enum fs_steer steer;
    uint32_t flags;
    int lowest_fd; /* new descriptors get at least this number, out of a program's way */
};

struct fs_table_info {
    uint32_t slots;       /* records in the page: slots, or plain claims when shared */
    bool shared;          /* no local listeners: all processes accept from the global one */
    bool stopping;        /* fs_table_stop_arrivals was called */
    bool frozen;          /* no thread may claim: fs_table_freeze or fs_table_yield was called */
    enum fs_steer wanted; /* as requested */
    enum fs_steer steer;  /* in force: any but FS_STEER_AUTO */
    uint64_t generation;  /* moves whenever a claim or the live set changes */
    uint64_t others;      /* connections accepted by processes without a slot */
    uint32_t restored;    /* times that the page was restored: it held invalid data */
    uint64_t cookie;      /* SO_COOKIE of the global listener */
    char why[FS_WHY_MAX]; /* why this steering, or why shared */
    struct sockaddr_storage address;
    socklen_t address_len;
};

struct fs_slot_info {
    pid_t pid;        /* owner; 0: none */
    pid_t tid;        /* the owner's thread */
    uint64_t start;   /* the thread's start time in clock ticks since boot, proc(5) stat field 22 */
    int cpu;          /* the core whose connections `cpu` steering sends here */
    bool live;        /* new connections are steered here */
    bool alive;       /* the owner is a running thread */
    bool used;        /* was claimed at least once */
    uint64_t claims;  /* times that the slot changed hands */
    uint64_t epoch;   /* moves at each change of the owner or `live`, also back */
    uint64_t own;     /* connections that the owner accepted from this slot */
    uint64_t stolen;  /* connections that the owner accepted from another owner's slot */
    uint64_t orphan;  /* connections that the owner accepted from a slot without an owner */
    uint64_t global;  /* connections that the owner accepted from the global listener */
    uint64_t cookie;  /* SO_COOKIE of its socket; sock_diag(7) lists it too */
    uint64_t arrived; /* connections that any process took out of this slot's queue */
    uint64_t helped;  /* connections that siblings took because the owner was late */
    /* The threads that accept from this slot first show these values of themselves: */
    int64_t open;    /* connections that they hold; FS_UNCOUNTED: unknown */
    uint64_t late;   /* connections that they took because a sibling was late */
    uint64_t worked; /* ns of `lived` in which they did not wait for events */
    uint64_t lived;  /* ns since they claimed; 0: unknown */
};

/* Make `fd`, a bound TCP socket, the global listener of a new table and listen on it. A socket that
 * was listening already is converted if the kernel allows it. A socket that cannot have slots is
 * served shared (info.shared, info.why): it is not TCP, no descriptors are left, it is one of
 * several sockets with SO_REUSEPORT, or the kernel or a sandbox refuses a call. `fd` stays the
 * caller's. */
int fs_table_create(struct fs_table **out, int fd, const struct fs_table_options *options);

/* Open a table in a process that did not inherit it. The descriptors were received from a process
 * that has the table: fs_table_fd of every slot (none if the table is shared; `global` again where
 * the first slot is the global listener). On success they are the table's; `global` stays the
 * caller's. */
int fs_table_adopt(struct fs_table **out, int memfd, int bell, int global, const int *slots,
                   uint32_t count);
/* Open a table in a process that did not inherit it, with descriptors from process `pid`, which has
 * it: pidfd_getfd(2), which needs the right to trace that process. `memfd` is the page's number in
 * `pid`; `global` is the listener, which the caller has received in any way. -ENOENT: the page is
 * another listener's. */
int fs_table_take(struct fs_table **out, pid_t pid, int memfd, int global);

/* A read-only view of another process's table: `memfd` is its page. Only the functions that read
 * work on it. */
int fs_table_attach(struct fs_table **out, int memfd);

/* Close this process's hold on the slots and the page. Claims stay: they end with their owner. */
void fs_table_free(struct fs_table *table);
/* Close the table's descriptors, the first half of fs_table_free: another thread may still call the
 * table, and gets -EBADF. */
void fs_table_close(struct fs_table *table);

int fs_table_fd(const struct fs_table *table, int slot); /* descriptor of a slot or FS_GLOBAL */
/* The program's descriptor of the global listener is `fd` now, a duplicate of the previous one. */
void fs_table_set_global(struct fs_table *table, int fd);
int fs_table_page_fd(const struct fs_table *table);
/* A timerfd that all processes share. It expires whenever the generation moves, and no process
 * reads it: each watches it by EPOLLET, so that all of them are woken. */
int fs_table_bell(const struct fs_table *table);
void fs_table_read(const struct fs_table *table, struct fs_table_info *info);
uint32_t fs_table_slots(const struct fs_table *table);
/* True if this process made the table with less than was requested, shared or hashed, because the
 * kernel or a sandbox refuses a call; info.why names the call. */
bool fs_table_refused(const struct fs_table *table);
/* True if any thread has ever claimed a slot. Until then all connections arrive at the global
 * listener. */
bool fs_table_claimed(const struct fs_table *table);
int fs_table_read_slot(const struct fs_table *table, int slot, struct fs_slot_info *info);
/* How long connections that the owners of a slot accepted had waited in the kernel, since the table
 * was made. The wait of a timed connection begins with its first bytes. Of connections that are not
 * timed, one in 32 is measured, from its last bytes, or from the end of the handshake if the client
 * sent nothing. */
int fs_table_read_waits(const struct fs_table *table, int slot, struct fs_histogram *waits);
/* The core of a slot; in a supervised table, the core that its maker knew before the fork. -1:
 * none. */
int fs_table_core(const struct fs_table *table, int slot);

/* Claim a slot for the calling thread, until the thread releases it or ends. An exec does not end a
 * claim, but closes the slots: release the slot before it. -EBUSY while a living owner has the slot
 * (for FS_ANY_SLOT: while living owners have all slots). The claim of a dead owner is taken over.
 * cpu -1 keeps the slot's core. Returns the slot. */
int fs_table_claim(struct fs_table *table, int slot, int cpu);
/* Give the slot to `pid`'s main thread, no matter which thread has it now; -ESRCH if there is no
 * such process. */
int fs_table_hand_over(struct fs_table *table, int slot, pid_t pid);
/* Give up the calling thread's claim and steer away from the slot; -EPERM if another thread has
 * it. */
int fs_table_release(struct fs_table *table, int slot);
/* Clear the claims of process `pid`, which is known to be dead: where /proc is not available, a
 * zombie looks alive. Returns the number of claims. */
int fs_table_bury(struct fs_table *table, pid_t pid);
/* Clear the claims of dead owners and steer away from them. Returns the number of claims. */
int fs_table_reap(struct fs_table *table);

/* Make the slot live, so that new connections arrive there, or no longer live. */
int fs_table_activate(struct fs_table *table, int slot, bool live);
/* Choose the steering. FS_STEER_AUTO decides by receive queues; info.why has the reason. */
int fs_table_steer(struct fs_table *table, enum fs_steer wanted);
/* Under FS_STEER_AUTO: leave `cpu` if the cores' shares turn out uneven. 1: the steering
 * changed. */
int fs_table_review(struct fs_table *table);
/* 1: a stranger's socket listens at the table's address too, and no process of the table has been
 * told of it before; the steering leaves it out. -errno where the kernel does not list sockets. */
int fs_table_joined(struct fs_table *table);

/* Refuse all claims from now on, because a process waits for the global listener alone and cannot
 * be told of claims. -EBUSY if there was a claim already. */
int fs_table_freeze(struct fs_table *table);
bool fs_table_frozen(const struct fs_table *table);
/* Refuse all claims from now on, because another process listens at the table's address. `page_fd`
 * is the table's page. `fd` is a socket that listens in its group, through which the group is
 * steered from now on. stranger: `fd` is a member of its own, which gets its share; else it is the
 * global listener. */
int fs_table_yield(int page_fd, int fd, bool stranger);
/* Let the kernel choose among the members of the group as if the table did not exist: for a table
 * that is given up before any thread claimed a slot of it. */
int fs_table_ungroup(struct fs_table *table);

/* listen(2) again on all members: with a new backlog, or after a shutdown(2), which is undone. */
int fs_table_relisten(struct fs_table *table, int backlog);

/* Accept through `channel`, which must outlive the table's use; NULL: by accept4(2). `channel` must
 * not be one whose listener is the table's own: it would accept through the table. */
struct fs_channel;
void fs_table_set_channel(struct fs_table *table, struct fs_channel *channel);

/* accept4(2) from slot `source` (or FS_GLOBAL) on behalf of the owner of `slot` (FS_GLOBAL: of a
 * process without one), counted in the page before the call returns. */
int fs_table_accept(struct fs_table *table, int slot, int source, struct sockaddr *address,
                    socklen_t *length, int flags);

/* The sources from which the owner of `slot` (FS_GLOBAL: a process without one) may accept, in
 * order: its slot, slots without an owner, `siblings` siblings' slots, the global listener. `out`
 * needs room for all slots and one. Returns the number of sources. */
uint32_t fs_table_sources(const struct fs_table *table, int slot, uint32_t siblings, int *out);
/* fs_table_accept from the first of fs_table_sources where a connection waits, for a caller that
 * has no part and compares nothing. -EAGAIN: no connection waits. */
int fs_table_accept_any(struct fs_table *table, int slot, struct sockaddr *address,
                        socklen_t *length, int flags);

/* Copy the global listener's socket options to every slot, again: they may have changed. */
int fs_table_copy_options(struct fs_table *table);

/* Full stop, first half: no new handshake starts on any member; handshakes in progress may
 * finish. */
int fs_table_stop_arrivals(struct fs_table *table);
/* Full stop, second half, once the queues are empty: shutdown(2) of all members, for every process.
 * New clients are refused, and another server may listen on the address. */
int fs_table_shutdown(struct fs_table *table);
/* The number of connections in the accept queue of a slot or FS_GLOBAL. */
int fs_table_queued(const struct fs_table *table, int slot);
/* The number of handshakes in progress at the table's port. */
int fs_table_half_open(const struct fs_table *table);

/* ---- one thread's part in a table ---------------------------------------------------------- */

#define FS_BELL      (-2) /* instead of a source: claims may have changed */
#define FS_NEIGHBOUR (-3) /* instead of a source: the next owner is dead */
#define FS_LOOK_MS   5    /* the shortest time until a look is due */

/* The caller's functions for polling. `add` has `fd` polled for reading, until `remove`; it returns
 * 0 or -errno. One waiter is woken at a time (EPOLLEXCLUSIVE), except by the bell and the
 * neighbour, which wake all. edge: by EPOLLET. `arm` is called often, for a descriptor that was
 * added with `edge`: it says whether the descriptor wakes us. After a pause, the descriptor also
 * wakes us for connections that came meanwhile. */
struct fs_poller {
    int (*add)(void *context, int fd, int source, bool edge);
    void (*remove)(void *context, int fd, int source);
    void (*arm)(void *context, int fd, int source, bool on);
};

/* A thread that waits for connections: `poller` polls everything that the thread may accept from
 * (native/core/part.c has the table of sources). One thread at a time may use a part: the thread
 * that has the claim. The table stays the caller's. */
struct fs_part;

/* slot: given by code that claims, activates and releases it; FS_GLOBAL: the part claims a free
 * slot at its syncs, and releases it. with_global: `poller` polls the global listener too, if that
 * is not a slot itself; else the caller does that. */
int fs_part_open(struct fs_part **out, struct fs_table *table, int slot, bool with_global,
                 const struct fs_poller *poller, void *context);
/* Stop all polling and give up the slot. It frees nothing, because it may be called where a signal
 * handler closes the listener. */
void fs_part_close(struct fs_part *part);
/* fs_part_close for a forked child: the claims are the parent's, and stay. */
void fs_part_forget(struct fs_part *part);
void fs_part_free(struct fs_part *part);

/* True if claims have changed since the last sync. */
bool fs_part_stale(const struct fs_part *part);
/* Claim a slot if there is a free one, and poll the sources as they are now. 1: the caller must
 * call fs_part_activate once the polling is in force. */
int fs_part_sync(struct fs_part *part);
/* Have connections arrive at the slot that the part claimed. */
int fs_part_activate(struct fs_part *part);
/* Call it when FS_BELL or FS_NEIGHBOUR is readable; then sync. */
void fs_part_heed(struct fs_part *part, int source);
/* Call it before the first sync: the slot then only counts the connections that this thread
 * accepts; none arrive there. */
void fs_part_park(struct fs_part *part);
/* Keep the claim, but poll nothing and let nothing arrive, until fs_part_resume and a sync. */
void fs_part_rest(struct fs_part *part);
void fs_part_resume(struct fs_part *part);

int fs_part_slot(const struct fs_part *part); /* FS_GLOBAL: no slot was left */

/* The number of connections that may be taken from `source`, at which one is said to wait: `most`,
 * 1, or 0 if the sibling that owns it should have it. */
int fs_part_may_take(struct fs_part *part, int source, int most);
/* Milliseconds until the next look at connections that were left to siblings; -1: none were
 * left. */
int fs_part_look_due(const struct fs_part *part);
/* Look again at connections that were left to siblings. `out`, which has room for all slots, gets
 * the slots from which to take one now. Returns the number of slots. */
uint32_t fs_part_look(struct fs_part *part, int *out);
/* accept4(2) from the first source from which a connection may be taken. -EAGAIN: there is none. */
int fs_part_accept(struct fs_part *part, struct sockaddr *address, socklen_t *length, int flags);
/* The sources that the part accepts from, in order; `out` needs room for all slots and one. Returns
 * the number of sources. */
uint32_t fs_part_sources(const struct fs_part *part, int *out);

/* For siblings to compare: the number of connections that this thread holds from the table. */
void fs_part_count(struct fs_part *part, int open);
/* A connection's first bytes had waited for `ns` nanoseconds: fs_table_read_waits reports it. */
void fs_part_waited(struct fs_part *part, uint64_t ns);
/* For siblings to compare: this thread is about to wait for events (fs_part_waits), or runs again,
 * or still (fs_part_runs). */
void fs_part_waits(struct fs_part *part);
void fs_part_runs(struct fs_part *part);

/* A thread's pulse: the thread says once, for all of its parts, that it waits or runs. */
struct fs_pulse;

int fs_pulse_open(struct fs_pulse **out);
/* The pulse is freed when its last part has left. */
void fs_pulse_free(struct fs_pulse *pulse);
int fs_pulse_join(struct fs_pulse *pulse, struct fs_part *part);
void fs_pulse_leave(struct fs_pulse *pulse, struct fs_part *part);
/* Show the pulse in a worker's page too, memory that this process shares with its supervisor alone.
 * NULL: no longer. */
struct fs_worker_page;
void fs_pulse_show(struct fs_pulse *pulse, struct fs_worker_page *page);
/* The thread waits for events from now on (fs_pulse_waits), or runs (fs_pulse_runs). */
void fs_pulse_waits(struct fs_pulse *pulse);
void fs_pulse_runs(struct fs_pulse *pulse);
/* fs_pulse_waits and fs_pulse_runs as callbacks of libuv's uv_prepare_t and uv_check_t, whose
 * `data` is not ours to use: the address of the pulse stands FS_PULSE_BEFORE pointers before the
 * handle. */
#define FS_PULSE_BEFORE 2
void fs_pulse_before_poll(void *handle);
void fs_pulse_after_poll(void *handle);

/* ---- a worker's page ------------------------------------------------------------------------- */

enum fs_refusal { /* why a request did not reach the application */
                  FS_REFUSED_MALFORMED,
                  FS_REFUSED_TOO_LARGE,
                  FS_REFUSED_TIMEOUT,
                  FS_REFUSED_CONCURRENCY,
                  FS_REFUSED_QUEUE_TIME,
                  FS_REFUSED_NOT_TLS,
                  FS_REFUSED_NO_PROXY,
                  FS_REFUSALS
};

/* The counters of a worker since its start. Only the thread of its loop writes them. */
struct fs_counters {
    uint64_t worked;   /* ns in which the loop did not wait for events, in all finished turns */
    uint64_t bytes[2]; /* received, sent */
    uint64_t connections[2]; /* accepted, ended */
    uint64_t answered[6]; /* requests by the first digit of the status; 0: the client left before */
    uint64_t refused[FS_REFUSALS];
    uint64_t websockets[2];   /* opened, ended */
    uint64_t dropped;         /* lines of the access log that were dropped */
    struct fs_histogram took; /* time of requests: from the head to the last byte of the response */
};

/* Shows a worker's supervisor whether the worker works; no other process has it. All zeros at
 * first. */
struct fs_worker_page {
    char release[16];
    uint64_t busy; /* since when its loop has not waited, CLOCK_MONOTONIC in ns; 0: it waits */
    /* Since when all threads of its pool are busy, CLOCK_MONOTONIC in ns; 0: one is free. */
    uint64_t pool;
    struct fs_counters counters;
};

static inline void fs_count(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

/* The nanoseconds for which the loop has not waited for events, or for which all threads of its
 * pool have been busy, whichever is longer. 0: neither, or the worker does not tell. */
uint64_t fs_worker_busy(const struct fs_worker_page *page);
/* Tell since when (CLOCK_MONOTONIC, nanoseconds) every thread of a pool has been busy; 0: one is
 * free. */
void fs_worker_pool(struct fs_worker_page *page, uint64_t since);

/* ---- memory shared with forks ---------------------------------------------------------------- */

/* Map shared memory: the content of `fd`, or zeros (-1: no file). */
int fs_shared_map(void **out, size_t size, int fd, bool writable);
/* In a fork: unmap all except `length` bytes from `from` on; both are whole pages. (0, 0: unmap all
 * of it.) */
int fs_shared_keep(void *at, size_t size, size_t from, size_t length);

/* ---- the channel --------------------------------------------------------------------------- */

struct fs_channel;

struct fs_channel_options {
    const char *device; /* NULL: FSOCKET_DEVICE */
    uint32_t slots;     /* slots of each listen table; 0: fs_default_slots */
    enum fs_steer steer;
};

/* Open a channel. `why` gets the reason for its backend, or the reason why there is none. */
int fs_channel_open(struct fs_channel **out, enum fs_backend wanted,
                    const struct fs_channel_options *options, char why[FS_WHY_MAX]);
/* Close the channel and everything that it made; the listeners' own descriptors stay the
 * program's. */
void fs_channel_free(struct fs_channel *channel);

enum fs_backend fs_channel_backend(const struct fs_channel *channel);
const char *fs_backend_name(enum fs_backend backend);

int fs_channel_socket(struct fs_channel *channel, int family, int type, int protocol);
/* With the reuseport backend the socket becomes non-blocking. fs_channel_accept blocks if the
 * socket was a blocking one, and returns -EINTR when a signal comes. */
int fs_channel_listen(struct fs_channel *channel, int fd, int backlog);
/* This process gets a local listener behind `fd`; cpu -1 lets the channel choose the core. */
int fs_channel_spawn_listen(struct fs_channel *channel, int fd, int cpu);
int fs_channel_spawn_all_listen(struct fs_channel *channel);
int fs_channel_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                      socklen_t *length, int flags);
int fs_channel_shutdown_listen(struct fs_channel *channel, int fd, int how);
int fs_channel_close(struct fs_channel *channel, int fd);

/* ---- waiting ------------------------------------------------------------------------------- */

/* Have a connection at listener `fd` wake one idle process, not all: EPOLLEXCLUSIVE. That needs a
 * new registration (DEL, ADD for EPOLLIN; data.fd is the fd), which comes behind the existing
 * waiters. edge: by EPOLLET, once for each arrival. -ENOENT, and no change, if `fd` was not
 * registered in `epfd`. */
int fs_poll_exclusive(int epfd, int fd, bool edge);
/* Have a listener that was registered by fs_poll_exclusive with `edge` wake us again (`on`), or no
 * longer. 0 or -errno. */
int fs_poll_arm(int epfd, int fd, bool on);

/* ---- processes ----------------------------------------------------------------------------- */

/* Have `signal` sent to this process when its parent dies, prctl(2) PR_SET_PDEATHSIG. The kernel
 * forgets it when credentials change: call it after dropping privileges. -ESRCH: the parent died
 * already. */
int fs_parent_death_signal(int signal, pid_t parent);

#endif
