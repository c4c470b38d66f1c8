/* SPDX-License-Identifier: MIT
 *
 * fs_core: the channel to the kernel and the listen table. What serve, the loops and the preload
 * library share.
 *
 * Rules of every function here: 0 (or a descriptor, index or count) on success, -errno on failure;
 * no global state; no allocation survives a failed call. A table may be used by every process that
 * inherited it by fork; what is shared between them lives in its page.
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
#define FS_SLOTS_MAX                                                                               \
    512 /* slots of one table: at most six instructions each, of 4096 (linux/bpf_common.h) */
#define FS_GLOBAL (-1) /* in the place of a slot number: the global listener */
/* Siblings' slots that a thread looks after beside its own. Each connection visits every waiter in
 * line that is busy, so there must not be too many; but where workers take one connection at a
 * time, one that waits is found only by those who watch its slot. */
#define FS_SIBLINGS  16
#define FS_ANY_SLOT  (-1) /* fs_table_claim: any free slot */
#define FS_UNCOUNTED (-1) /* in the place of a number of connections: nobody knows */
/* fs_table_options.flags */
#define FS_FIRST_IS_SLOT 0x1u /* slot 0 is the global listener itself */
/* The process that makes the table supervises those that serve it: it alone decides on steering and
 * reviews it, and restores a page that makes no sense from what it knows (info.restored). */
#define FS_SUPERVISED 0x2u
/* Those that serve the table look after slots that nobody has claimed, too. So where the kernel
 * takes no steering program its own hash over all slots will do; without the flag the listener is
 * shared there. */
#define FS_HASH_WILL_DO 0x4u
/* Connections carry the time when the kernel received their first bytes, SO_TIMESTAMPNS, and who
 * accepts them reads it: fs_receive_first. Without the flag fs_table_accept asks itself, now and
 * then. */
#define FS_TIMED 0x8u

enum fs_backend { FS_BACKEND_AUTO, FS_BACKEND_DEVICE, FS_BACKEND_REUSEPORT, FS_BACKEND_OFF };
/* HASH is never asked for: no steering program is taken, the kernel hashes over all slots. */
enum fs_steer { FS_STEER_AUTO, FS_STEER_CPU, FS_STEER_SPREAD, FS_STEER_HASH };

/* gettid(2), which glibc has since 2.30. */
pid_t fs_thread_id(void);

/* ---- sockets ------------------------------------------------------------------------------- */

/* SO_COOKIE, socket(7): which socket it is, as descriptors' numbers are used again; 0: it has none.
 */
uint64_t fs_socket_cookie(int fd);
/* An option whose value is an int, or -errno. */
int fs_socket_option(int fd, int level, int name);
bool fs_socket_listens(int fd);
/* recv(2) of the first bytes of a connection of a table that is timed (FS_TIMED). *waited: the
 * nanoseconds since the kernel received them (the last of them, if they came in pieces); -1: it
 * does not tell. CLOCK_REALTIME: if that is set meanwhile, it is as much too long, or 0. */
ssize_t fs_receive_first(int fd, void *data, size_t size, int64_t *waited);

/* ---- times --------------------------------------------------------------------------------- */

/* Eight to each power of two of microseconds: up to 134 s, and the last has all that is longer. */
#define FS_BUCKETS 200

struct fs_histogram {
    uint64_t sum; /* ns */
    uint64_t count[FS_BUCKETS];
};

/* What a bucket has is shorter than so many microseconds (the last one's may be longer). */
uint64_t fs_bucket_end(uint32_t bucket);
/* From any thread, of any process that has the memory. */
void fs_histogram_add(struct fs_histogram *histogram, uint64_t ns);
void fs_histogram_read(const struct fs_histogram *histogram, struct fs_histogram *out);

/* The accept queue of each TCP listener of this network namespace, by its cookie: how many there
 * are, of which `room` are in `out`. limit: listen(2)'s backlog, as far as somaxconn allows. */
struct fs_queue {
    uint64_t cookie;
    uint32_t length;
    uint32_t limit;
};
int fs_queues(struct fs_queue *out, uint32_t room);

/* ---- the listen table ---------------------------------------------------------------------- */

struct fs_table;

/* Slots for a maker who does not know who will serve: two for each core that this process may run
 * on, for a reload runs two generations, and at least eight: programs start more processes than
 * there are cores, and a slot that nobody claims costs a descriptor and no time. */
uint32_t fs_default_slots(void);

struct fs_table_options {
    uint32_t slots;   /* slots to make; 0: none, the listener is shared as it is */
    uint32_t records; /* claims that a table without slots can tell apart */
    int backlog;      /* listen(2) */
    enum fs_steer steer;
    uint32_t flags;
    int lowest_fd; /* descriptors that are made get at least this number, out of a program's way */
};

struct fs_table_info {
    uint32_t slots;       /* records in the page: slots, or plain claims when shared */
    bool shared;          /* no local listeners: everybody accepts from the global one */
    bool stopping;        /* fs_table_stop_arrivals was called */
    bool frozen;          /* nobody may claim: fs_table_freeze or fs_table_yield was called */
    enum fs_steer wanted; /* as asked for */
    enum fs_steer steer;  /* in force: any but FS_STEER_AUTO */
    uint64_t generation;  /* moves whenever a claim or the live set changes */
    uint64_t others;      /* connections accepted by processes without a slot */
    uint32_t restored;    /* times that the page made no sense: a process wrote what it pleased */
    uint64_t cookie;      /* SO_COOKIE of the global listener */
    char why[FS_WHY_MAX]; /* why this steering, or why shared */
    struct sockaddr_storage address;
    socklen_t address_len;
};

struct fs_slot_info {
    pid_t pid;        /* owner, 0: nobody */
    pid_t tid;        /* its thread */
    uint64_t start;   /* the thread's start time in clock ticks since boot, proc(5) stat field 22 */
    int cpu;          /* the core whose connections `cpu` steering sends here */
    bool live;        /* new connections are steered here */
    bool alive;       /* the owner is a running thread */
    bool used;        /* was claimed at least once */
    uint64_t claims;  /* times it changed hands */
    uint64_t epoch;   /* moves whenever the owner or `live` changes, and back */
    uint64_t own;     /* accepted by this slot's owner from this slot, */
    uint64_t stolen;  /* ... from a slot that somebody else serves, */
    uint64_t orphan;  /* ... from a slot that nobody serves, */
    uint64_t global;  /* ... from the global listener */
    uint64_t cookie;  /* SO_COOKIE of its socket, by which sock_diag(7) knows it too */
    uint64_t arrived; /* taken out of this slot's queue, by whomever, */
    uint64_t helped;  /* ... by siblings because its owner was late */
    /* What the threads that accept from it first show of themselves: */
    int64_t open;    /* connections that they hold; FS_UNCOUNTED: nobody counts */
    uint64_t late;   /* connections that they took because a sibling was late */
    uint64_t worked; /* ns that they did not wait for events, of */
    uint64_t lived;  /* ... so many since they claimed; 0: they do not tell */
};

/* Make `fd`, a bound TCP socket, the global listener of a new table and listen on it.
 * A socket that was listening already is converted if the kernel allows it. What cannot have slots
 * is served shared (info.shared, info.why): no TCP, no descriptors left, one of several sockets
 * with SO_REUSEPORT, a call that the kernel or a sandbox refuses. `fd` stays the caller's. */
int fs_table_create(struct fs_table **out, int fd, const struct fs_table_options *options);

/* The same table in a process that did not inherit it: descriptors received from one that has it,
 * fs_table_fd of every slot (none if it is shared, `global` again where the first is a slot). On
 * success they are the table's, `global` stays the caller's.
 */
int fs_table_adopt(struct fs_table **out, int memfd, int bell, int global, const int *slots,
                   uint32_t count);
/* The same, out of process `pid`, which has it: pidfd_getfd(2), which needs the right to trace that
 * process. `memfd` is the page's number there, `global` the listener, received from wherever.
 * -ENOENT: it is another listener's page. */
int fs_table_take(struct fs_table **out, pid_t pid, int memfd, int global);

/* A read-only view of another process's table: `memfd` is its page. Only the readers work on it. */
int fs_table_attach(struct fs_table **out, int memfd);

/* Close this process's hold on the slots and the page. Claims stay: they end with their owner. */
void fs_table_free(struct fs_table *table);
/* Its first half, all descriptors: another thread may still call the table, and gets -EBADF. */
void fs_table_close(struct fs_table *table);

int fs_table_fd(const struct fs_table *table, int slot); /* descriptor of a slot or FS_GLOBAL */
/* The program's descriptor of the global listener is `fd` now, a duplicate of what it was. */
void fs_table_set_global(struct fs_table *table, int fd);
int fs_table_page_fd(const struct fs_table *table);
/* A timerfd that all processes share, set to expire whenever the generation moves and never read:
 * each watches it by EPOLLET, so that all of them are woken. */
int fs_table_bell(const struct fs_table *table);
void fs_table_read(const struct fs_table *table, struct fs_table_info *info);
uint32_t fs_table_slots(const struct fs_table *table);
/* It was made here with less than was asked for, shared or hashed, because the kernel or a sandbox
 * refuses a call; info.why names it. */
bool fs_table_refused(const struct fs_table *table);
/* Anybody has ever claimed a slot: until then all connections arrive at the global listener. */
bool fs_table_claimed(const struct fs_table *table);
int fs_table_read_slot(const struct fs_table *table, int slot, struct fs_slot_info *info);
/* For how long connections that the owners of a slot accepted had waited in the kernel, since the
 * table was made: from their first bytes, or of those that were not timed one in 32, from the end
 * of the handshake if it said nothing. */
int fs_table_read_waits(const struct fs_table *table, int slot, struct fs_histogram *waits);
/* The core that a slot is for, of a supervised table as its maker knew it before the fork; -1. */
int fs_table_core(const struct fs_table *table, int slot);

/* Claim a slot for the calling thread, until it releases it or ends; an exec does not end a claim,
 * but closes the slots: release before. -EBUSY while a living owner has it (or every one).
 * The claim of a dead owner is taken over. cpu -1 keeps the slot's core. Returns the slot. */
int fs_table_claim(struct fs_table *table, int slot, int cpu);
/* Give the slot to `pid`'s main thread, whoever has it now; -ESRCH if there is no such process. */
int fs_table_hand_over(struct fs_table *table, int slot, pid_t pid);
/* Give up the calling thread's claim and steer away; -EPERM if somebody else has it. */
int fs_table_release(struct fs_table *table, int slot);
/* Clear the claims of process `pid`, which is known to be dead: where /proc is not to be had a
 * zombie looks alive. Returns how many there were. */
int fs_table_bury(struct fs_table *table, pid_t pid);
/* Clear the claims of dead owners and steer away from them. Returns how many there were. */
int fs_table_reap(struct fs_table *table);

/* Let new connections arrive at the slot, or no longer. */
int fs_table_activate(struct fs_table *table, int slot, bool live);
/* Choose the steering; FS_STEER_AUTO decides by receive queues and says why in the info. */
int fs_table_steer(struct fs_table *table, enum fs_steer wanted);
/* Under FS_STEER_AUTO: leave `cpu` if the cores' shares turn out uneven. 1: it changed. */
int fs_table_review(struct fs_table *table);
/* 1: somebody else's socket listens at the table's address too, which no process of the table has
 * been told before; the steering leaves it out. -errno where the kernel does not list sockets. */
int fs_table_joined(struct fs_table *table);

/* Have nobody claim slots of this table, because somebody waits for the global listener alone and
 * cannot be told of claims; -EBUSY if there was one already. */
int fs_table_freeze(struct fs_table *table);
bool fs_table_frozen(const struct fs_table *table);
/* Have nobody claim slots of a table any more, for a process that listens beside it: `page_fd` is
 * its page, and `fd` a socket that listens in its group, through which it is steered from now on.
 * stranger: `fd` is a member of its own, which gets its share; else it is the global listener. */
int fs_table_yield(int page_fd, int fd, bool stranger);
/* The kernel is to choose among the members of the group as if we were not there: when the table
 * is given up before anybody claimed a slot of it. */
int fs_table_ungroup(struct fs_table *table);

/* listen(2) again on all members: a new backlog, or after a shutdown(2), which is undone. */
int fs_table_relisten(struct fs_table *table, int backlog);

/* Accept through `channel`, which has to outlive the table's use; NULL: by accept4(2). A channel
 * whose listener is the table's own must not be: it would accept through the table. */
struct fs_channel;
void fs_table_set_channel(struct fs_table *table, struct fs_channel *channel);

/* accept4(2) from slot `source` (or FS_GLOBAL) on behalf of the owner of `slot` (FS_GLOBAL: of a
 * process without one), counted in the page before the call returns. */
int fs_table_accept(struct fs_table *table, int slot, int source, struct sockaddr *address,
                    socklen_t *length, int flags);

/* What the owner of `slot` (FS_GLOBAL: a process without one) may accept from, in order: its slot,
 * slots that nobody serves, so many siblings', the global listener. Room for all slots and one. */
uint32_t fs_table_sources(const struct fs_table *table, int slot, uint32_t siblings, int *out);
/* fs_table_accept from the first of them where a connection waits, for a caller that has no part
 * and compares nothing. -EAGAIN: none does. */
int fs_table_accept_any(struct fs_table *table, int slot, struct sockaddr *address,
                        socklen_t *length, int flags);

/* Copy the global listener's socket options to every slot, again: they may have changed. */
int fs_table_copy_options(struct fs_table *table);

/* Full stop, first half: no new handshake starts on any member; those under way may finish. */
int fs_table_stop_arrivals(struct fs_table *table);
/* Full stop, second half, once the queues are empty: shutdown(2) of all members, for every process.
 * Newcomers are refused, and another server may listen on the address. */
int fs_table_shutdown(struct fs_table *table);
/* Connections in the accept queue of a slot or FS_GLOBAL. */
int fs_table_queued(const struct fs_table *table, int slot);
/* Handshakes under way at the table's port. */
int fs_table_half_open(const struct fs_table *table);

/* ---- one thread's part in a table ---------------------------------------------------------- */

#define FS_BELL      (-2) /* in the place of a source: claims may have changed, */
#define FS_NEIGHBOUR (-3) /* ... the next owner is dead */
#define FS_LOOK_MS   5    /* the soonest that a look is due */

/* Who polls: `add` has `fd` polled for reading, until `remove`; 0 or -errno. One waiter is woken at
 * a time (EPOLLEXCLUSIVE), but all by the bell and the neighbour. edge: by EPOLLET. `arm` is called
 * often, for what was added by edges: whether it is to wake us; after a pause, also for what has
 * come meanwhile. */
struct fs_poller {
    int (*add)(void *context, int fd, int source, bool edge);
    void (*remove)(void *context, int fd, int source);
    void (*arm)(void *context, int fd, int source, bool on);
};

/* A thread that waits for connections: it has everything that is its to accept from polled by
 * `poller` (native/core/part.c has the table of what that is). To be used by one thread at a time,
 * which has the claim. The table stays the caller's. */
struct fs_part;

/* slot: given by somebody who claims, activates and releases it; FS_GLOBAL: the part claims a free
 * one at its syncs, and releases it. with_global: the global listener is polled by `poller` too,
 * if it is not a slot itself; else the caller does that. */
int fs_part_open(struct fs_part **out, struct fs_table *table, int slot, bool with_global,
                 const struct fs_poller *poller, void *context);
/* Nothing is polled any more, the slot is given up. It frees nothing, for it may be called where a
 * signal handler closes the listener. */
void fs_part_close(struct fs_part *part);
/* The same in a forked child: claims are the parent's, and stay. */
void fs_part_forget(struct fs_part *part);
void fs_part_free(struct fs_part *part);

/* Claims have changed since the last sync. */
bool fs_part_stale(const struct fs_part *part);
/* Claim a slot if there is a free one, and have polled what is to be polled now. 1: once that is in
 * force, fs_part_activate is to be called. */
int fs_part_sync(struct fs_part *part);
/* Have connections arrive at the slot that was claimed. */
int fs_part_activate(struct fs_part *part);
/* FS_BELL or FS_NEIGHBOUR is readable; then sync. */
void fs_part_heed(struct fs_part *part, int source);
/* Before the first sync: the slot only counts what this thread accepts; nothing arrives there. */
void fs_part_park(struct fs_part *part);
/* Keep the claim, but have nothing polled, and nothing arrive, until fs_part_resume and a sync. */
void fs_part_rest(struct fs_part *part);
void fs_part_resume(struct fs_part *part);

int fs_part_slot(const struct fs_part *part); /* FS_GLOBAL: there was none left */

/* How many connections may be taken from `source`, at which one is said to wait: `most`, 1, or 0 if
 * it is a sibling's who is to have it. */
int fs_part_may_take(struct fs_part *part, int source, int most);
/* Milliseconds after which to look again at what was left to siblings; -1: nothing was. */
int fs_part_look_due(const struct fs_part *part);
/* Look again: slots from which one is to be taken now, into `out`, which has room for all. How many
 * there are. */
uint32_t fs_part_look(struct fs_part *part, int *out);
/* accept4(2) from the first source from which one may be taken. -EAGAIN: there is none. */
int fs_part_accept(struct fs_part *part, struct sockaddr *address, socklen_t *length, int flags);
/* What it accepts from, in order; room for all slots and one. How many there are. */
uint32_t fs_part_sources(const struct fs_part *part, int *out);

/* What siblings compare: connections that this thread holds from the table; it is about to wait for
 * events; it runs again, or still. */
void fs_part_count(struct fs_part *part, int open);
/* A connection's first bytes had waited so many nanoseconds: fs_table_read_waits tells. */
void fs_part_waited(struct fs_part *part, uint64_t ns);
void fs_part_waits(struct fs_part *part);
void fs_part_runs(struct fs_part *part);

/* A thread's parts, to which it says once for all of them that it waits or runs. */
struct fs_pulse;

int fs_pulse_open(struct fs_pulse **out);
/* It is gone when its last part has left. */
void fs_pulse_free(struct fs_pulse *pulse);
int fs_pulse_join(struct fs_pulse *pulse, struct fs_part *part);
void fs_pulse_leave(struct fs_pulse *pulse, struct fs_part *part);
/* Tell it in a worker's page too, memory that this process shares with its supervisor alone. NULL:
 * no more. */
struct fs_worker_page;
void fs_pulse_show(struct fs_pulse *pulse, struct fs_worker_page *page);
void fs_pulse_waits(struct fs_pulse *pulse);
void fs_pulse_runs(struct fs_pulse *pulse);
/* The same as callbacks of libuv's uv_prepare_t and uv_check_t, whose `data` is not ours to use:
 * the address of the pulse stands so many pointers before the handle. */
#define FS_PULSE_BEFORE 2
void fs_pulse_before_poll(void *handle);
void fs_pulse_after_poll(void *handle);

/* ---- a worker's page ------------------------------------------------------------------------- */

enum fs_refusal { /* why a request was not the application's */
                  FS_REFUSED_MALFORMED,
                  FS_REFUSED_TOO_LARGE,
                  FS_REFUSED_TIMEOUT,
                  FS_REFUSED_CONCURRENCY,
                  FS_REFUSED_QUEUE_TIME,
                  FS_REFUSED_NOT_TLS,
                  FS_REFUSED_NO_PROXY,
                  FS_REFUSALS
};

/* What a worker has done since it started. Written by its loop's thread alone. */
struct fs_counters {
    uint64_t worked;   /* ns that the loop did not wait for events, in all turns that are over */
    uint64_t bytes[2]; /* received, sent */
    uint64_t connections[2]; /* accepted, over */
    uint64_t answered[6];    /* requests by their status's first digit; 0: the client left before */
    uint64_t refused[FS_REFUSALS];
    uint64_t websockets[2];   /* opened, over */
    uint64_t dropped;         /* lines of the access log */
    struct fs_histogram took; /* requests: from their head to the last byte of the response */
};

/* Who supervises a worker sees in it whether it works; nobody else has it. Zeros at first. */
struct fs_worker_page {
    char release[16];
    uint64_t busy; /* since when its loop has not waited, CLOCK_MONOTONIC in ns; 0: it waits */
    uint64_t pool; /* the same of a pool of threads that works for it: all are busy */
    struct fs_counters counters;
};

static inline void fs_count(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}

/* The nanoseconds for which the loop has not waited for events; 0: it does, or does not tell. */
uint64_t fs_worker_busy(const struct fs_worker_page *page);
/* Tell since when (CLOCK_MONOTONIC, nanoseconds) every thread of a pool has been busy; 0: one is
 * free. */
void fs_worker_pool(struct fs_worker_page *page, uint64_t since);

/* ---- memory shared with forks ---------------------------------------------------------------- */

/* Zeros, or what `fd` has (-1: no file). */
int fs_shared_map(void **out, size_t size, int fd, bool writable);
/* In a fork: unmap all but `length` bytes from `from` on, both whole pages. (0, 0: all of it.) */
int fs_shared_keep(void *at, size_t size, size_t from, size_t length);

/* ---- the channel --------------------------------------------------------------------------- */

struct fs_channel;

struct fs_channel_options {
    const char *device; /* NULL: FSOCKET_DEVICE */
    uint32_t slots;     /* slots of each listen table; 0: fs_default_slots */
    enum fs_steer steer;
};

/* Open a channel. `why` says which backend it is and why, or why there is none. */
int fs_channel_open(struct fs_channel **out, enum fs_backend wanted,
                    const struct fs_channel_options *options, char why[FS_WHY_MAX]);
/* Close it and what it made; the listeners' own descriptors stay the program's. */
void fs_channel_free(struct fs_channel *channel);

enum fs_backend fs_channel_backend(const struct fs_channel *channel);
const char *fs_backend_name(enum fs_backend backend);

int fs_channel_socket(struct fs_channel *channel, int family, int type, int protocol);
/* reuseport: the socket is made non-blocking; fs_channel_accept blocks if it was a blocking one,
 * and says -EINTR when a signal comes. */
int fs_channel_listen(struct fs_channel *channel, int fd, int backlog);
/* This process gets a local listener behind `fd`; cpu -1 lets the channel choose the core. */
int fs_channel_spawn_listen(struct fs_channel *channel, int fd, int cpu);
int fs_channel_spawn_all_listen(struct fs_channel *channel);
int fs_channel_accept(struct fs_channel *channel, int fd, struct sockaddr *address,
                      socklen_t *length, int flags);
int fs_channel_shutdown_listen(struct fs_channel *channel, int fd, int how);
int fs_channel_close(struct fs_channel *channel, int fd);

/* ---- waiting ------------------------------------------------------------------------------- */

/* Have a connection at listener `fd` wake one idle process, not all: EPOLLEXCLUSIVE, which needs a
 * new registration (DEL, ADD for EPOLLIN; data.fd is the fd), behind those that wait already.
 * edge: by EPOLLET, once for each arrival. -ENOENT, and nothing is done, if `fd` was not registered
 * in `epfd`. */
int fs_poll_exclusive(int epfd, int fd, bool edge);
/* What was registered so, by edges, is to wake us no more, or again. -errno */
int fs_poll_arm(int epfd, int fd, bool on);

/* ---- processes ----------------------------------------------------------------------------- */

/* Have `signal` sent to this process when its parent dies, prctl(2) PR_SET_PDEATHSIG. The kernel
 * forgets it when credentials change: call it after dropping them. -ESRCH: it died already. */
int fs_parent_death_signal(int signal, pid_t parent);

#endif
