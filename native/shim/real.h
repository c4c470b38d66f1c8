/* SPDX-License-Identifier: MIT
 *
 * libc's own calls, behind our exported names. A call has three names: the program calls `accept4`
 * (interpose*.c), `shim_accept4` decides, and `real_accept4` is libc's.
 *
 * The linker's --wrap (link.opts) turns every plain `accept4` in native/core, and in our own files
 * except those that define the exported names, into `real_accept4` too: a table's calls on its own
 * sockets must not come back to us.
 */
#ifndef FS_SHIM_REAL_H
#define FS_SHIM_REAL_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

/* type, name, parameters, arguments; a call that libc does not have fails with ENOSYS */
#define REAL_CALLS(X)                                                                              \
    X(int, socket, (int family, int type, int protocol), (family, type, protocol))                 \
    X(int, listen, (int fd, int backlog), (fd, backlog))                                           \
    X(int, accept, (int fd, struct sockaddr *address, socklen_t *length), (fd, address, length))   \
    X(int, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags),              \
      (fd, address, length, flags))                                                                \
    X(int, close, (int fd), (fd))                                                                  \
    X(int, shutdown, (int fd, int how), (fd, how))                                                 \
    X(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t length),         \
      (fd, level, name, value, length))                                                            \
    X(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *length),              \
      (fd, level, name, value, length))                                                            \
    X(int, dup, (int fd), (fd))                                                                    \
    X(int, dup2, (int fd, int to), (fd, to))                                                       \
    X(int, dup3, (int fd, int to, int flags), (fd, to, flags))                                     \
    X(int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags))          \
    X(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event),                       \
      (epfd, op, fd, event))                                                                       \
    X(int, epoll_wait, (int epfd, struct epoll_event *events, int most, int timeout),              \
      (epfd, events, most, timeout))                                                               \
    X(int, epoll_pwait,                                                                            \
      (int epfd, struct epoll_event *events, int most, int timeout, const sigset_t *mask),         \
      (epfd, events, most, timeout, mask))                                                         \
    X(int, epoll_pwait2,                                                                           \
      (int epfd, struct epoll_event *events, int most, const struct timespec *timeout,             \
       const sigset_t *mask),                                                                      \
      (epfd, events, most, timeout, mask))                                                         \
    X(int, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))          \
    X(int, ppoll,                                                                                  \
      (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),   \
      (fds, count, timeout, mask))                                                                 \
    X(int, select, (int count, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout),          \
      (count, r, w, e, timeout))                                                                   \
    X(int, pselect,                                                                                \
      (int count, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,                 \
       const sigset_t *mask),                                                                      \
      (count, r, w, e, timeout, mask))                                                             \
    X(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))         \
    X(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))   \
    X(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length),                     \
      (fd, address, length))                                                                       \
    X(int, getpeername, (int fd, struct sockaddr *address, socklen_t *length),                     \
      (fd, address, length))                                                                       \
    X(int, fstat, (int fd, struct stat *st), (fd, st))                                             \
    X(int, fstat64, (int fd, struct stat *st), (fd, st))                                           \
    X(int, __fxstat, (int version, int fd, struct stat *st), (version, fd, st))                    \
    X(int, __fxstat64, (int version, int fd, struct stat *st), (version, fd, st))                  \
    X(int, execve, (const char *path, char *const argv[], char *const envp[]), (path, argv, envp)) \
    X(int, execvpe, (const char *file, char *const argv[], char *const envp[]),                    \
      (file, argv, envp))                                                                          \
    X(int, fexecve, (int fd, char *const argv[], char *const envp[]), (fd, argv, envp))            \
    X(int, execveat,                                                                               \
      (int dir, const char *path, char *const argv[], char *const envp[], int flags),              \
      (dir, path, argv, envp, flags))

/* The wrapped symbol by the name that we use for it. */
#define REAL_NAME(name)                                 __asm__("__wrap_" #name)
#define REAL_DECLARE(type, name, parameters, arguments) type real_##name parameters REAL_NAME(name);
REAL_CALLS(REAL_DECLARE)
void real_closefrom(int first) REAL_NAME(closefrom);
int real_fcntl(int fd, int command, ...) REAL_NAME(fcntl);
long real_syscall(long number, ...) REAL_NAME(syscall);

/* Look up all calls, once, before there are threads. An earlier call looks up only itself. */
void real_resolve(void);

#endif
