/* A listener is handed to a process that is older than it, and closed by its maker. Waiting
 * connections are served, and so are later ones. */
#include "call.h"

static void send_fd(int to, int fd)
{
    char byte = 'x', space[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    MUST(sendmsg(to, &message, 0));
}

static int receive_fd(int from)
{
    int fd;
    char byte, space[CMSG_SPACE(sizeof fd)];
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    MUST(recvmsg(from, &message, MSG_CMSG_CLOEXEC));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

int main(void)
{
    int pair[2];
    char byte;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        close(pair[0]);
        int fd = receive_fd(pair[1]);
        MUST(write(pair[1], "r", 1));
        worker(fd, pair[1], "heir");
        _exit(0);
    }
    close(pair[1]);
    int fd = listener(SOCK_NONBLOCK | SOCK_CLOEXEC), epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    int clients[8];
    clients[0] = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "maker"));
    printf("%s\n", answer(clients[0]));
    for (int i = 0; i < 4; i++)
        clients[i] = client_of(fd); /* they wait where the maker would have been served */
    send_fd(pair[0], fd);
    MUST(read(pair[0], &byte, 1)); /* the heir has it */
    for (int i = 4; i < 8; i++)
        clients[i] = client_of(fd);
    close(fd);
    close(epfd);
    for (int i = 0; i < 8; i++)
        printf("%s\n", answer(clients[i]));
    close(pair[0]);
    reap(pid);
}
