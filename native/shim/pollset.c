/* SPDX-License-Identifier: MIT */
#include "pollset.h"
#include "fdtable.h"
#include "log.h"
#include "real.h"
#include "state.h"
#include "wait.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    WATCHES = 4096, /* registrations of listeners that can be helped at a time */
    SOURCES = 1024, /* numbers of each: slots, bell and neighbour */
    SEVERAL = 8,    /* listeners that one wait reports, sources that one accept tries */
    IN_AND_OUT = 3, /* times that a listener may be taken out before its slot takes no arrivals */
    REVIEW = 1024,  /* accepts of a thread between two looks at the steering */
};

struct watch {
    struct listener *listener; /* NULL: not in use */
    struct pollset *set;
    int fd;
    uint32_t events;
    epoll_data_t data;
    _Atomic(bool) wanted;  /* the program has it registered for reading, */
    _Atomic(bool) applied; /* ... and what else is to be polled is, */
    _Atomic(bool) stale;   /* ... but claims have changed since */
    unsigned outs;
    struct fs_local *local;
    struct fs_local *spent; /* to be freed when no signal handler can be under way */
    _Atomic(int) slot;
    struct watch *next; /* in its set */
    size_t number;
};

struct pollset {
    int epfd;
    int references;      /* descriptors; 0: not in use */
    bool inherited;      /* the parent's too */
    _Atomic(bool) dirty; /* some watch may not be as it is wanted */
    _Atomic(pid_t) waiter;
    _Atomic(struct watch *) watches;
    struct pollset *next;
};

static _Atomic(struct watch *) watches[WATCHES];
static size_t watch_count;
static uintptr_t
    tags; /* of the registration i and source s: tags + i * SOURCES + s - FS_NEIGHBOUR */

static __thread struct {
    pid_t tid;
    struct pollset *set;
    int count;
    struct ready {
        struct watch *watch;
        int source;
    } ready[SEVERAL];
    unsigned accepts;
} thread;

static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

/* ---- registering what is hidden ---- */

static uint64_t tag_of(const struct watch *w, int source)
{
    return tags + w->number * SOURCES + (size_t)(source - FS_NEIGHBOUR);
}

static int hidden_add(void *context, int fd, int source)
{
    struct watch *w = context;
    uint32_t how = source == FS_BELL        ? EPOLLET
                   : source == FS_NEIGHBOUR ? EPOLLET
                                            : EPOLLEXCLUSIVE | (w->events & EPOLLET);
    struct epoll_event event = {.events = EPOLLIN | how, .data.u64 = tag_of(w, source)};
    if (real_epoll_ctl(w->set->epfd, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    if (source == FS_NEIGHBOUR)
        fdtable_set(fd, FD_HIDDEN, NULL);
    return 0;
}

static void hidden_remove(void *context, int fd, int source)
{
    struct watch *w = context;
    if (!w->set->inherited)
        real_epoll_ctl(w->set->epfd, EPOLL_CTL_DEL, fd, NULL);
    if (source == FS_NEIGHBOUR)
        fdtable_set(fd, FD_PLAIN, NULL);
}

static const struct fs_poller poller = {.add = hidden_add, .remove = hidden_remove};

/* ---- watches; under the lock ---- */

static struct watch *watch_find(struct pollset *set, int fd)
{
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
        if (w->listener && w->fd == fd)
            return w;
    return NULL;
}

static struct watch *watch_new(struct pollset *set, int fd, struct listener *l)
{
    struct watch *w = NULL;
    for (w = atomic_load(&set->watches); w && w->listener; w = w->next)
        ;
    if (!w) {
        if (!tags) {
            /* Address space only: nobody else's data can point there. */
            void *space = mmap(NULL, (size_t)WATCHES * SOURCES, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (space == MAP_FAILED)
                return NULL;
            tags = (uintptr_t)space;
        }
        if (watch_count == WATCHES || !(w = calloc(1, sizeof *w)))
            return NULL;
        w->number = watch_count++;
        w->set = set;
        w->next = atomic_load(&set->watches);
        atomic_store(&watches[w->number], w);
        atomic_store(&set->watches, w);
    }
    w->fd = fd;
    w->wanted = w->applied = w->stale = false;
    w->outs = 0;
    atomic_store(&w->slot, FS_GLOBAL);
    w->listener = l;
    return w;
}

static void give_up(struct watch *w)
{
    if (w->local && w->set->inherited)
        fs_local_forget(w->local);
    else if (w->local)
        fs_local_close(w->local);
    w->spent = w->local ? w->local : w->spent;
    w->local = NULL;
    atomic_store(&w->applied, false);
    atomic_store(&w->slot, FS_GLOBAL);
}

/* The program does not want connections now. */
static void rest(struct watch *w)
{
    if (!w->applied)
        return;
    if (w->outs > IN_AND_OUT) {
        fs_local_rest(w->local);
        w->applied = false;
    } else {
        w->outs++;
        give_up(w);
        if (w->outs == IN_AND_OUT)
            log_line(LOG_INFO, "%s: is taken out of epoll again and again: no slot for this worker",
                     w->listener->name);
    }
}

static void pin(const struct watch *w, struct fs_table *table)
{
    struct fs_slot_info slot;
    cpu_set_t allowed, one;
    if (fs_table_read_slot(table, w->slot, &slot) < 0 || slot.cpu < 0 ||
        sched_getaffinity(0, sizeof allowed, &allowed) < 0 || !CPU_ISSET(slot.cpu, &allowed))
        return;
    CPU_ZERO(&one);
    CPU_SET(slot.cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void take_part(struct watch *w)
{
    struct fs_table *table = atomic_load(&w->listener->table);
    if (!table)
        return;
    if (!w->local) {
        fs_local_free(w->spent);
        w->spent = NULL;
        int flags = real_fcntl(w->fd, F_GETFL);
        /* accept() of a blocking listener waits for the global listener alone: it stays there. */
        if (flags < 0 || !(flags & O_NONBLOCK) || fs_local_open(&w->local, table, &poller, w) < 0)
            return;
        if (w->outs >= IN_AND_OUT) {
            w->outs = IN_AND_OUT + 1;
            fs_local_park(w->local);
        }
    }
    w->stale = false;
    int before = w->slot, rc = fs_local_sync(w->local);
    atomic_store(&w->slot, fs_local_slot(w->local));
    atomic_store(&w->applied, true);
    if (w->slot != before && w->slot != FS_GLOBAL) {
        log_line(LOG_INFO, "%s: thread %d has slot %d", w->listener->name, gettid(), w->slot);
        if (state.settings.pin)
            pin(w, table);
    }
    if (rc)
        log_line(LOG_ERROR, "%s: steering: %s", w->listener->name, strerror(-rc));
}

static bool in_order(const struct watch *w)
{
    return !w->listener || (w->wanted == w->applied && !w->stale);
}

static void set_sync(struct pollset *set)
{
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next) {
        if (in_order(w))
            continue;
        if (w->wanted)
            take_part(w);
        else
            rest(w);
    }
}

/* ---- sets; under the lock ---- */

static struct pollset *set_new(int epfd)
{
    struct pollset *set = state.pollsets;
    while (set && set->references)
        set = set->next;
    if (!set) {
        set = calloc(1, sizeof *set);
        if (!set)
            return NULL;
        set->next = state.pollsets;
        state.pollsets = set;
    }
    set->epfd = epfd;
    set->references = 1;
    set->inherited = false;
    atomic_store(&set->waiter, 0);
    if (fdtable_set(epfd, FD_POLLSET, set)) {
        set->references = 0;
        return NULL;
    }
    return set;
}

void pollset_duplicate(int epfd, int to)
{
    struct pollset *set = fdtable_get(epfd, FD_POLLSET);
    if (set && fdtable_set(to, FD_POLLSET, set) == 0)
        set->references++;
}

void pollset_leave(int epfd)
{
    struct pollset *set = fdtable_get(epfd, FD_POLLSET);
    fdtable_set(epfd, FD_PLAIN, NULL);
    if (!set)
        return;
    if (--set->references > 0) {
        for (int fd = -1;
             epfd == set->epfd && (fd = fdtable_next((unsigned)fd + 1, UINT_MAX)) >= 0;)
            if (fdtable_get(fd, FD_POLLSET) == set)
                set->epfd = fd;
        return;
    }
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next) {
        if (w->listener)
            give_up(w);
        w->listener = NULL;
    }
}

void pollset_listener_left(struct listener *l)
{
    for (struct pollset *set = state.pollsets; set; set = set->next)
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener == l) {
                give_up(w);
                w->listener = NULL;
            }
}

void pollset_suspend_all(void)
{
    for (struct pollset *set = state.pollsets; set; set = set->next)
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener && w->local) {
                give_up(w);
                atomic_store(&set->dirty, true);
            }
}

void pollset_forked(void)
{
    for (struct pollset *set = state.pollsets; set; set = set->next) {
        set->inherited = true;
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener)
                give_up(w);
    }
    memset(&thread, 0, sizeof thread);
}

/* A thread ends, its process does not: nobody would notice. */
static void thread_ended(void *unused)
{
    sigset_t saved;
    (void)unused;
    state_lock(&saved);
    for (struct pollset *set = state.pollsets; set; set = set->next) {
        if (!set->references || set->inherited || atomic_load(&set->waiter) != gettid())
            continue;
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener)
                give_up(w);
        atomic_store(&set->dirty, true);
        atomic_store(&set->waiter, 0);
    }
    state_unlock(&saved);
}

static void thread_key_make(void)
{
    pthread_key_create(&thread_key, thread_ended);
}

/* ---- epoll_ctl(2) ---- */

static void want(struct watch *w, int op, const struct epoll_event *event)
{
    /* One shot: the program says for each connection when it wants the next. */
    w->wanted = op != EPOLL_CTL_DEL && event->events & EPOLLIN && !(event->events & EPOLLONESHOT);
    atomic_store(&w->set->dirty, true);
}

/* The thread that waits takes its listener out, or in again as it was (nginx does at every 16th
 * connection): nobody else is concerned, and nothing is done before the next wait. */
static bool changed_by_waiter(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct pollset *set = fdtable_get(epfd, FD_POLLSET);
    if (!set || set != thread.set || set->inherited || atomic_load(&set->waiter) != thread.tid)
        return false;
    struct watch *w = watch_find(set, fd);
    if (!w || w->listener != listener_of(fd))
        return false;
    if (op != EPOLL_CTL_DEL && (w->events != event->events || w->data.u64 != event->data.u64))
        return false;
    want(w, op, event);
    return true;
}

static void changed(int epfd, int op, int fd, struct listener *l, const struct epoll_event *event)
{
    struct pollset *set = fdtable_get(epfd, FD_POLLSET);
    if (!set && op != EPOLL_CTL_DEL)
        set = set_new(epfd);
    if (!set || set->inherited)
        return;
    struct watch *w = watch_find(set, fd);
    if (w && w->listener != l) {
        give_up(w);
        w->listener = NULL;
        w = NULL;
    }
    if (!w && op != EPOLL_CTL_DEL)
        w = watch_new(set, fd, l);
    if (!w)
        return;
    if (op != EPOLL_CTL_DEL) {
        if (w->local && (w->events ^ event->events) & EPOLLET)
            give_up(w);
        w->events = event->events;
        w->data = event->data;
    }
    want(w, op, event);
    /* Another thread may be waiting there now, and must not be told of what is not wanted. */
    pid_t waiter = atomic_load(&set->waiter);
    if (!w->wanted && waiter && waiter != gettid())
        rest(w);
}

int shim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    int rc = real_epoll_ctl(epfd, op, fd, event);
    if (rc < 0 || changed_by_waiter(epfd, op, fd, event))
        return rc;
    int error = errno;
    sigset_t saved;
    state_lock(&saved);
    struct listener *l = listener_check(fd);
    if (l)
        changed(epfd, op, fd, l, event);
    state_unlock(&saved);
    errno = error;
    return rc;
}

/* ---- waiting ---- */

static void prepare(struct pollset *set)
{
    if (!thread.tid) {
        pthread_once(&thread_once, thread_key_make);
        pthread_setspecific(thread_key, &thread);
        thread.tid = gettid();
    }
    thread.set = set;
    thread.count = 0;
    if (set->inherited)
        return;
    if (atomic_load_explicit(&set->waiter, memory_order_relaxed) != thread.tid)
        atomic_store(&set->waiter, thread.tid);
    if (!atomic_load_explicit(&set->dirty, memory_order_acquire))
        return;
    atomic_store(&set->dirty, false);
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
        if (!in_order(w)) {
            sigset_t saved;
            state_lock(&saved);
            set_sync(set);
            state_unlock(&saved);
            return;
        }
}

static void remember(struct watch *w, int source)
{
    if (thread.count == SEVERAL)
        return; /* level-triggered it comes again, edge-triggered accept tries all at the end */
    struct ready here = {w, source};
    int at = thread.count++;
    if (source == w->slot) { /* the own slot first */
        thread.ready[at] = thread.ready[0];
        at = 0;
    }
    thread.ready[at] = here;
}

static void heed(struct watch *w, int source)
{
    sigset_t saved;
    state_lock(&saved);
    struct fs_table *table = w->listener ? atomic_load(&w->listener->table) : NULL;
    if (w->local)
        fs_local_heed(w->local, source);
    else if (source == FS_NEIGHBOUR && table)
        fs_table_reap(table); /* a set that is the parent's too: the bell tells him */
    atomic_store(&w->stale, true);
    atomic_store(&w->set->dirty, true);
    state_unlock(&saved);
}

/* The watch behind an event of ours, NULL if its registration has ended; false: it is not ours. */
static bool is_ours(const struct pollset *set, const struct epoll_event *event, struct watch **w,
                    int *source)
{
    uint64_t at = event->data.u64 - tags;
    if (!tags || at >= (uint64_t)WATCHES * SOURCES)
        return false;
    *w = atomic_load(&watches[at / SOURCES]);
    *source = (int)(at % SOURCES) + FS_NEIGHBOUR;
    if (*w && ((*w)->set != set || !(*w)->listener))
        *w = NULL;
    return true;
}

/* Report what came from slots as the listener's, once; keep the rest. How many events remain. */
static int translate(struct pollset *set, struct epoll_event *events, int count)
{
    struct watch *seen[SEVERAL], *w;
    int several = 0, kept = 0, source;
    for (int i = 0; i < count; i++) {
        if (!is_ours(set, &events[i], &w, &source) || !w)
            continue;
        if (source < 0) {
            heed(w, source);
            continue;
        }
        if (!w->wanted)
            continue;
        remember(w, source);
        bool again = false;
        for (int s = 0; s < several; s++)
            again = again || seen[s] == w;
        if (!again && several < SEVERAL)
            seen[several++] = w;
    }
    struct epoll_event *reported[SEVERAL] = {0};
    for (int i = 0; i < count; i++) {
        bool ours = is_ours(set, &events[i], &w, &source);
        int s = 0;
        while (s < several && !(ours ? seen[s] == w : seen[s]->data.u64 == events[i].data.u64))
            s++;
        if (s == several) {
            if (!ours)
                events[kept++] = events[i];
            else if (w && source >= 0 && w->wanted) /* more listeners than are told apart */
                events[kept++] = (struct epoll_event){.events = events[i].events, .data = w->data};
            continue;
        }
        uint32_t what = events[i].events;
        if (!ours)
            remember(seen[s], FS_GLOBAL);
        if (reported[s]) {
            reported[s]->events |= what;
            continue;
        }
        if (ours && source < 0)
            continue;
        reported[s] = &events[kept++];
        *reported[s] = (struct epoll_event){.events = what, .data = seen[s]->data};
    }
    return kept;
}

int shim_epoll_wait(const struct wait_call *call, struct epoll_event *events, int most,
                    const struct timespec *timeout)
{
    struct pollset *set = fdtable_get(call->epfd, FD_POLLSET);
    if (!set)
        return call->once(call, events, most, timeout);
    struct timespec deadline, left;
    bool bounded = timeout && (timeout->tv_sec > 0 || timeout->tv_nsec > 0);
    if (bounded)
        wait_deadline(timeout, &deadline);
    for (;;) {
        prepare(set);
        int count = call->once(call, events, most, timeout);
        if (count <= 0)
            return count;
        count = translate(set, events, count);
        if (count > 0)
            return count;
        /* Nothing of it was the program's: go on for the time that is left. */
        if (bounded) {
            wait_left(&deadline, &left);
            timeout = &left;
        }
    }
}

/* ---- accepting ---- */

int pollset_slot(const struct listener *l)
{
    /* Where one thread waits and another accepts, any claim of the process will do. */
    const struct pollset *set = thread.set ? thread.set : state.pollsets;
    for (; set; set = thread.set ? NULL : set->next)
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener == l && w->slot != FS_GLOBAL)
                return w->slot;
    return FS_GLOBAL;
}

bool pollset_accept(struct listener *l, struct fs_table *table, struct sockaddr *address,
                    socklen_t *length, int flags, int *rc)
{
    bool said = false, edge = false;
    if (++thread.accepts % REVIEW == 0) {
        sigset_t saved;
        state_lock(&saved);
        fs_table_review(table);
        state_unlock(&saved);
    }
    for (int i = 0; i < thread.count;) {
        struct watch *w = thread.ready[i].watch;
        if (w->listener != l) {
            i++;
            continue;
        }
        said = true;
        edge = edge || w->events & EPOLLET;
        *rc = fs_table_accept(table, w->slot, thread.ready[i].source, address, length, flags);
        if (*rc != -EAGAIN)
            return true;
        thread.count--;
        for (int j = i; j < thread.count; j++)
            thread.ready[j] = thread.ready[j + 1];
    }
    *rc = -EAGAIN;
    /* An edge is reported once, perhaps by an earlier wait: then all have to be looked at. */
    return said && !edge;
}
