/* SPDX-License-Identifier: MIT */
#include "reports.h"
#include "fdtable.h"
#include "pollset.h"
#include "state.h"
#include "wait.h"
#include "watch.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
    SEVERAL = 8,   /* listeners that one wait reports, sources that one accept tries */
    REVIEW = 1024, /* accepts of a thread between two looks at the steering */
};

static __thread struct {
    pid_t tid;
    struct pollset *set;
    int count;
    struct ready {
        struct watch *watch;
        int source;
        bool one; /* a sibling's: take one connection, then compare again */
    } ready[SEVERAL];
    unsigned accepts;
} thread;

static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

static void thread_ended(void *unused)
{
    (void)unused;
    pollset_thread_ended();
}

static void thread_key_make(void)
{
    pthread_key_create(&thread_key, thread_ended);
}

void reports_forget(void)
{
    memset(&thread, 0, sizeof thread);
}

bool reports_waiter(const struct pollset *set)
{
    return set == thread.set && atomic_load(&set->waiter) == thread.tid;
}

/* ---- waiting ---- */

static void prepare(struct pollset *set)
{
    if (!thread.tid) {
        pthread_once(&thread_once, thread_key_make);
        pthread_setspecific(thread_key, &thread);
        thread.tid = fs_thread_id();
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
        if (!watch_in_order(w)) {
            sigset_t saved;
            state_lock(&saved);
            pollset_sync(set);
            state_unlock(&saved);
            return;
        }
}

/* Tell the parts of a set the state that siblings compare (native/core/compare.c). Connections are
 * not counted here: a program may pass them on, duplicate them, or close them where we do not see
 * it. */
static void tell(struct pollset *set, void (*what)(struct fs_part *part))
{
    if (set->inherited)
        return;
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next) {
        struct fs_part *part = atomic_load_explicit(&w->part, memory_order_relaxed);
        if (part)
            what(part);
    }
}

/* Let the thread's next accept try this source. To drop one is harmless: level-triggered, it comes
 * again; edge-triggered, accept tries all sources at the end. */
static void ready(struct watch *w, int source, bool one)
{
    if (thread.count == SEVERAL)
        return;
    int at = thread.count++;
    if (source == w->slot) { /* its own slot comes first */
        thread.ready[at] = thread.ready[0];
        at = 0;
    }
    thread.ready[at] = (struct ready){w, source, one};
}

/* Whether the thread should accept from this source; it may have to leave a sibling's alone. */
static bool remember(struct watch *w, int source)
{
    struct fs_part *part = atomic_load(&w->part);
    int most = 2;
    if (part && source >= 0 && source != w->slot) {
        sigset_t saved;
        state_lock(&saved);
        most = fs_part_may_take(part, source, 2);
        state_unlock(&saved);
    }
    if (most < 2)
        w->set->left_alone = true; /* this also holds for the connections after the first */
    if (most > 0)
        ready(w, source, most == 1);
    return most > 0;
}

static void heed(struct watch *w, int source)
{
    sigset_t saved;
    state_lock(&saved);
    struct fs_table *table = w->listener ? atomic_load(&w->listener->table) : NULL;
    if (w->part)
        fs_part_heed(w->part, source);
    else if (source == FS_NEIGHBOUR && table)
        fs_table_reap(table); /* the set is shared: the bell tells the parent */
    atomic_store(&w->stale, true);
    atomic_store(&w->set->dirty, true);
    state_unlock(&saved);
}

/* Report events of slots as the listener's, once; keep the rest. Returns how many events remain. */
static int translate(struct pollset *set, struct epoll_event *events, int count)
{
    struct watch *seen[SEVERAL], *w;
    int several = 0, kept = 0, source;
    for (int i = 0; i < count; i++) {
        if (!watch_of_event(set, &events[i], &w, &source) || !w)
            continue;
        if (source < 0) {
            heed(w, source);
            continue;
        }
        if (!w->wanted || !remember(w, source))
            continue;
        bool again = false;
        for (int s = 0; s < several; s++)
            again = again || seen[s] == w;
        if (!again && several < SEVERAL)
            seen[several++] = w;
    }
    struct epoll_event *reported[SEVERAL] = {0};
    for (int i = 0; i < count; i++) {
        bool ours = watch_of_event(set, &events[i], &w, &source);
        int s = 0;
        while (s < several && !(ours ? seen[s] == w : seen[s]->data.u64 == events[i].data.u64))
            s++;
        if (s == several) {
            if (!ours)
                events[kept++] = events[i];
            else if (w && source >= 0 && w->wanted && several == SEVERAL)
                /* more listeners than `seen` has room for */
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

/* Milliseconds until the next look at connections that were left to siblings; -1: none were. */
static int look_due(const struct pollset *set)
{
    int first = -1;
    if (!set->left_alone || set->inherited)
        return -1;
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next) {
        struct fs_part *part = atomic_load(&w->part);
        int due = part && w->wanted ? fs_part_look_due(part) : -1;
        first = due >= 0 && (first < 0 || due < first) ? due : first;
    }
    return first;
}

static bool is_reported(const struct watch *w, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++)
        if (events[i].data.u64 == w->data.u64)
            return true;
    return false;
}

/* Look at connections that were left to siblings. Those to take now are added to the events.
 * Returns the new number of events. */
static int look(struct pollset *set, struct epoll_event *events, int count, int most)
{
    int slots[FS_SLOTS_MAX];
    for (struct watch *w = atomic_load(&set->watches); w && count < most; w = w->next) {
        struct fs_part *part = atomic_load(&w->part);
        if (!part || !w->wanted)
            continue;
        sigset_t saved;
        state_lock(&saved);
        uint32_t several = fs_part_look(part, slots);
        state_unlock(&saved);
        for (uint32_t i = 0; i < several; i++)
            ready(w, slots[i], true);
        if (several > 0 && !is_reported(w, events, count))
            events[count++] = (struct epoll_event){.events = EPOLLIN, .data = w->data};
    }
    return count;
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
        int due = look_due(set);
        struct timespec until = {.tv_nsec = due * 1000000L};
        bool sooner =
            due >= 0 && (!timeout || timeout->tv_sec > 0 || timeout->tv_nsec > until.tv_nsec);
        tell(set, fs_part_waits);
        int found = call->once(call, events, most, sooner ? &until : timeout);
        int error = errno;
        tell(set, fs_part_runs);
        errno = error;
        if (found < 0)
            return found;
        int count = found ? translate(set, events, found) : 0;
        if (look_due(set) == 0)
            count = look(set, events, count, most);
        if (count > 0 || (found == 0 && !sooner))
            return count;
        /* None of the events was for the program: wait for the time that is left. */
        if (bounded) {
            wait_left(&deadline, &left);
            timeout = &left;
        }
    }
}

/* ---- accepting ---- */

int reports_slot(const struct listener *l)
{
    /* Where one thread waits and another accepts, any claim of the process will do. */
    const struct pollset *set = thread.set ? thread.set : state.pollsets;
    for (; set; set = thread.set ? NULL : set->next)
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener == l && w->slot != FS_GLOBAL)
                return w->slot;
    return FS_GLOBAL;
}

struct fs_part *reports_part(const struct listener *l)
{
    if (!thread.set || thread.set->inherited)
        return NULL;
    for (struct watch *w = atomic_load(&thread.set->watches); w; w = w->next)
        if (w->listener == l)
            return atomic_load(&w->part);
    return NULL;
}

bool reports_accept(struct listener *l, struct fs_table *table, struct sockaddr *address,
                    socklen_t *length, int flags, int *rc)
{
    bool said = false, edge = false;
    if (++thread.accepts % REVIEW == 0) {
        sigset_t saved;
        state_lock(&saved);
        fs_table_review(table);
        watch_unpin(table);
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
        if (*rc != -EAGAIN && !thread.ready[i].one)
            return true;
        thread.count--;
        for (int j = i; j < thread.count; j++)
            thread.ready[j] = thread.ready[j + 1];
        if (*rc != -EAGAIN)
            return true;
    }
    *rc = -EAGAIN;
    /* An edge is reported once, perhaps by an earlier wait: then all sources must be tried. */
    return said && !edge;
}
