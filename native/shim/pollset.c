/* SPDX-License-Identifier: MIT */
#include "pollset.h"
#include "fdtable.h"
#include "real.h"
#include "reports.h"
#include "state.h"
#include "watch.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- sets; under the lock ---- */

void pollset_sync(struct pollset *set)
{
    for (struct watch *w = atomic_load(&set->watches); w; w = w->next) {
        if (watch_in_order(w))
            continue;
        if (w->wanted)
            watch_take_part(w);
        else
            watch_rest(w);
    }
}

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
            watch_give_up(w);
        w->listener = NULL;
    }
}

void pollset_listener_left(struct listener *l)
{
    for (struct pollset *set = state.pollsets; set; set = set->next)
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener == l) {
                watch_give_up(w);
                w->listener = NULL;
            }
}

void pollset_suspend_all(void)
{
    for (struct pollset *set = state.pollsets; set; set = set->next)
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener && w->part) {
                watch_give_up(w);
                atomic_store(&set->dirty, true);
            }
}

void pollset_forked(void)
{
    for (struct pollset *set = state.pollsets; set; set = set->next) {
        set->inherited = true;
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener)
                watch_give_up(w);
    }
    reports_forget();
}

void pollset_thread_ended(void)
{
    sigset_t saved;
    state_lock(&saved);
    for (struct pollset *set = state.pollsets; set; set = set->next) {
        if (!set->references || set->inherited || atomic_load(&set->waiter) != fs_thread_id())
            continue;
        for (struct watch *w = atomic_load(&set->watches); w; w = w->next)
            if (w->listener)
                watch_give_up(w);
        atomic_store(&set->dirty, true);
        atomic_store(&set->waiter, 0);
    }
    state_unlock(&saved);
}

/* ---- epoll_ctl(2) ---- */

static void want(struct watch *w, int op, const struct epoll_event *event)
{
    /* One shot: the program says for each connection when it wants the next. */
    w->wanted = op != EPOLL_CTL_DEL && event->events & EPOLLIN && !(event->events & EPOLLONESHOT);
    atomic_store(&w->set->dirty, true);
}

/* The thread that waits removes its listener, or adds it again as it was (nginx does so at every
 * 16th connection): no other thread is affected, and nothing is done before the next wait. */
static bool changed_by_waiter(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct pollset *set = fdtable_get(epfd, FD_POLLSET);
    if (!set || set->inherited || !reports_waiter(set))
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
        watch_give_up(w);
        w->listener = NULL;
        w = NULL;
    }
    if (!w && op != EPOLL_CTL_DEL)
        w = watch_new(set, fd, l);
    if (!w)
        return;
    if (op != EPOLL_CTL_DEL) {
        if (w->part && (w->events ^ event->events) & EPOLLET)
            watch_give_up(w);
        w->events = event->events;
        w->data = event->data;
    }
    want(w, op, event);
    /* Another thread may be waiting there now, and must not get unwanted events. */
    pid_t waiter = atomic_load(&set->waiter);
    if (!w->wanted && waiter && waiter != fs_thread_id())
        watch_rest(w);
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
