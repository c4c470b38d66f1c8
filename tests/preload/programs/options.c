/* Options set before and after listen(2) are seen on accepted connections; then the listener's own
 * options. */
#include "call.h"

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    if (getsockopt(fd, level, name, &value, &length) < 0)
        printf("getsockopt: %s\n", strerror(errno));
    return value;
}

static void set(int fd, int level, int name, int value)
{
    printf("set: %d\n", setsockopt(fd, level, name, &value, sizeof value));
}

int main(void)
{
    int fd = bound_socket(AF_INET, SOCK_NONBLOCK), epfd = MUST(epoll_create1(0));
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_RCVBUF, 20000);
    MUST(listen(fd, 16));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    printf("reuseport %d, reuseaddr %d, accepts %d, type %d\n", get(fd, SOL_SOCKET, SO_REUSEPORT),
           get(fd, SOL_SOCKET, SO_REUSEADDR), get(fd, SOL_SOCKET, SO_ACCEPTCONN),
           get(fd, SOL_SOCKET, SO_TYPE));
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    set(fd, SOL_SOCKET, SO_REUSEPORT, 0);
    printf("reuseport %d\n", get(fd, SOL_SOCKET, SO_REUSEPORT));
    printf("bad: %d %d\n", setsockopt(fd, IPPROTO_TCP, 9999, &fd, sizeof fd), errno);
    for (int i = 0; i < 5; i++) {
        int client = client_of(fd);
        show_wait(epfd, 5000);
        int connection = MUST(accept(fd, NULL, NULL));
        printf("%d %d %d %d\n", get(connection, IPPROTO_TCP, TCP_NODELAY),
               get(connection, SOL_SOCKET, SO_RCVBUF), get(connection, SOL_SOCKET, SO_KEEPALIVE),
               get(connection, IPPROTO_TCP, TCP_KEEPIDLE));
        serve(connection, "x");
        answer(client);
    }
    printf("%x %x\n", (unsigned)fcntl(fd, F_GETFL), (unsigned)fcntl(fd, F_GETFD));
    socklen_t length;
    struct sockaddr_storage name = name_of(fd, &length);
    printf("%d %d\n", name.ss_family, (int)length);
    set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1);
    int client = client_of(fd);
    show_wait(epfd, 50); /* the client has sent nothing yet */
    MUST(write(client, "hi", 2));
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "deferred"));
    printf("%s\n", answer(client));
}
