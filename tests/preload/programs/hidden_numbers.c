/* The program goes through all numbers, before and after an exec, with every call by which it could
 * find descriptors that it did not open: uWSGI does so with getsockname(2). */
#include "call.h"
#include <sys/stat.h>

enum { NUMBERS = 4096 };

static bool own[NUMBERS];

static int polled(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLOUT}; /* a listener is never ready for that */
    if (poll(&entry, 1, 0) == 1 && entry.revents == POLLNVAL) {
        struct pollfd two[2] = {{.fd = -1}, {.fd = fd, .events = POLLIN}};
        errno = ppoll(two, 2, NULL, NULL) == 1 && two[1].revents == POLLNVAL ? EBADF : 0;
        return -1;
    }
    return 0;
}

static int selected(int fd, int which)
{
    struct {
        fd_set first, more[NUMBERS / FD_SETSIZE];
    } set = {0};
    struct timeval now = {0};
    ((unsigned long *)&set)[fd / 64] |= 1UL << fd % 64;
    return select(fd + 1, which == 0 ? &set.first : NULL, which == 1 ? &set.first : NULL,
                  which == 2 ? &set.first : NULL, &now);
}

static int passed_on(int through, int fd)
{
    char room[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec text = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return (int)sendmsg(through, &message, MSG_DONTWAIT);
}

static int sent(int fd)
{
    struct msghdr message = {0};
    return (int)sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* All calls must fail with EBADF for a number that is not open. */
static void look(int fd, int epfd, int pair)
{
    struct sockaddr_storage name;
    struct epoll_event event = {.events = EPOLLIN};
    struct stat st;
    int value = 1;
    socklen_t length = sizeof name, size = sizeof value;
#define CLOSED(call)                                                                               \
    do {                                                                                           \
        errno = 0;                                                                                 \
        if ((call) != -1 || errno != EBADF)                                                        \
            printf("%s: %d is there: %s\n", #call, fd, strerror(errno));                           \
    } while (0)
    CLOSED(getsockname(fd, (struct sockaddr *)&name, &length));
    CLOSED(getpeername(fd, (struct sockaddr *)&name, &length));
    CLOSED(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size));
    CLOSED(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
    CLOSED(fcntl(fd, F_GETFD));
    CLOSED(fcntl(fd, F_GETFL));
    CLOSED(fcntl(fd, F_DUPFD, 0));
    CLOSED(fstat(fd, &st));
    CLOSED(dup(fd));
    CLOSED(dup2(fd, 3000));
    CLOSED(dup3(fd, 3000, O_CLOEXEC));
    CLOSED(polled(fd));
    for (int which = 0; which < 3; which++)
        CLOSED(selected(fd, which));
    CLOSED(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
    CLOSED(epoll_ctl(fd, EPOLL_CTL_ADD, epfd, &event));
    CLOSED(sent(fd));
    CLOSED(passed_on(pair, fd));
    CLOSED(listen(fd, 1));
    CLOSED(accept(fd, NULL, NULL));
    CLOSED(accept4(fd, NULL, NULL, 0));
    CLOSED(shutdown(fd, SHUT_RDWR));
    CLOSED(close(fd));
}

static void look_at_all(int epfd, int pair)
{
    for (int fd = 0; fd < NUMBERS; fd++)
        if (!own[fd])
            look(fd, epfd, pair);
    printf("looked at all\n");
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    MUST(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = NUMBERS;
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    int fd = argc == 1 ? listener(SOCK_NONBLOCK) : atoi(argv[1]);
    int epfd = MUST(epoll_create1(EPOLL_CLOEXEC)), pair[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    const int opened[] = {0, 1, 2, fd, epfd, pair[0], pair[1]};
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++)
        own[opened[i]] = true;
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    look_at_all(epfd, pair[0]);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "still"));
    printf("%s\n", answer(client));
    if (argc == 1) {
        char number[16];
        sprintf(number, "%d", fd);
        MUST(close(pair[0]));
        MUST(close(pair[1]));
        fflush(stdout);
        execl("/proc/self/exe", argv[0], number, (char *)NULL);
        return 1;
    }
}
