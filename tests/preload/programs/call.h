/* Shared code of the call-site programs: each prints its results, the same plain and preloaded. */
#ifndef CALL_H
#define CALL_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call)                                                                                 \
    ({                                                                                             \
        long value_ = (long)(call);                                                                \
        if (value_ < 0) {                                                                          \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, strerror(errno));                 \
            fflush(stdout);                                                                        \
            _exit(1);                                                                              \
        }                                                                                          \
        (int)value_;                                                                               \
    })

static inline struct sockaddr_storage name_of(int fd, socklen_t *length)
{
    struct sockaddr_storage name;
    *length = sizeof name;
    MUST(getsockname(fd, (struct sockaddr *)&name, length));
    return name;
}

/* Bound to a free port of 127.0.0.1 (or ::1), with these flags of socket(2). */
static inline int bound_socket(int family, int flags)
{
    int on = 1, fd = MUST(socket(family, SOCK_STREAM | flags, 0));
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    if (family == AF_INET)
        MUST(bind(fd, (struct sockaddr *)&v4, sizeof v4));
    else
        MUST(bind(fd, (struct sockaddr *)&v6, sizeof v6));
    return fd;
}

static inline int listener(int flags)
{
    int fd = bound_socket(AF_INET, flags);
    MUST(listen(fd, 128));
    return fd;
}

static inline int client_of(int fd)
{
    socklen_t length;
    struct sockaddr_storage name = name_of(fd, &length);
    int client = MUST(socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    MUST(connect(client, (struct sockaddr *)&name, length));
    return client;
}

/* "refused" or the text that the server sent. */
static inline const char *answer(int client)
{
    static __thread char text[64];
    ssize_t got = read(client, text, sizeof text - 1);
    close(client);
    if (got < 0)
        return strerror(errno);
    text[got] = '\0';
    return got ? text : "nothing";
}

static inline void serve(int connection, const char *text)
{
    MUST(connection);
    MUST(write(connection, text, strlen(text)));
    MUST(close(connection));
}

static inline int watch(int epfd, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event);
}

/* Wait for one event and print it. */
static inline int show_wait(int epfd, int timeout)
{
    struct epoll_event events[8];
    int count = epoll_wait(epfd, events, 8, timeout);
    printf("wait: %d", count);
    for (int i = 0; i < count; i++)
        printf(" %llx:%x", (unsigned long long)events[i].data.u64, events[i].events);
    printf("\n");
    return count;
}

/* Serve all connections that wait on a non-blocking listener; their number. */
static inline int serve_all(int fd, const char *text)
{
    int count = 0, connection;
    while ((connection = accept(fd, NULL, NULL)) >= 0) {
        serve(connection, text);
        count++;
    }
    if (errno != EAGAIN)
        printf("accept: %s\n", strerror(errno));
    return count;
}

static inline void reap(pid_t pid)
{
    int status;
    MUST(waitpid(pid, &status, 0));
    if (WIFSIGNALED(status))
        printf("child ended by signal %d\n", WTERMSIG(status));
    else if (WEXITSTATUS(status))
        printf("child exited with %d\n", WEXITSTATUS(status));
}

static inline int open_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1000; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* A worker with its own epoll set, until it is told to stop by end-of-file on `control`. */
static inline void worker(int fd, int control, const char *text)
{
    int epfd = MUST(epoll_create1(EPOLL_CLOEXEC));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    MUST(watch(epfd, control, EPOLLIN, 2));
    for (;;) {
        struct epoll_event event;
        int count = epoll_wait(epfd, &event, 1, -1);
        if (count == 1 && event.data.u64 == 2)
            break;
        if (count == 1)
            serve_all(fd, text);
    }
    close(epfd);
}

#endif
