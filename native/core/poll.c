/* SPDX-License-Identifier: MIT
 *
 * EPOLLEXCLUSIVE for a listener that another library registered. Facts (fs/eventpoll.c):
 * - the flag is EINVAL with EPOLL_CTL_MOD, so only a new registration can have it;
 * - exclusive waiters are woken in the order in which they registered, and one that is not in
 *   epoll_wait is passed over: an owner that registered first keeps its connections, and an idle
 *   sibling behind it takes those that the owner would leave waiting.
 */
#include <errno.h>
#include <fastsocket/fs.h>
#include <sys/epoll.h>

int fs_poll_exclusive(int epfd, int fd, bool edge)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE | (edge ? (uint32_t)EPOLLET : 0),
                                .data.fd = fd};
    if (epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL) < 0)
        return -errno;
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    int rc = -errno;
    event.events = EPOLLIN; /* as before */
    epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event);
    return rc;
}

int fs_poll_arm(int epfd, int fd, bool on)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, .data.fd = fd};
    return epoll_ctl(epfd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &event) < 0 ? -errno : 0;
}
