/* IPv6 only, dual stack; unix and UDP sockets, which the library leaves alone. */
#include "call.h"

static void any(int only)
{
    int fd = MUST(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0)), epfd = MUST(epoll_create1(0));
    MUST(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only));
    MUST(listen(fd, 16)); /* binds, too */
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    socklen_t length;
    struct sockaddr_storage name = name_of(fd, &length);
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = ((struct sockaddr_in6 *)&name)->sin6_port,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 5; i++) {
        int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
        int rc = connect(client, (struct sockaddr *)&v4, sizeof v4);
        printf("v4: %d\n", rc);
        if (rc == 0) {
            show_wait(epfd, 5000);
            struct sockaddr_storage peer;
            length = sizeof peer;
            int connection = MUST(accept(fd, (struct sockaddr *)&peer, &length));
            printf("family %d length %d\n", peer.ss_family, (int)length);
            serve(connection, "v4");
            printf("%s\n", answer(client));
        } else {
            close(client);
        }
    }
    close(fd);
    close(epfd);
}

int main(void)
{
    any(0);
    any(1);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int un = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)), epfd = MUST(epoll_create1(0));
    MUST(bind(un, (struct sockaddr *)&name, sizeof(sa_family_t))); /* a name of its own */
    MUST(listen(un, 16));
    MUST(watch(epfd, un, EPOLLIN, 1));
    int client = client_of(un);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(un, "unix"));
    printf("%s\n", answer(client));
    int udp = MUST(socket(AF_INET, SOCK_DGRAM, 0));
    printf("%d %d\n", listen(udp, 5), errno == EOPNOTSUPP);
    printf("%d %d\n", accept(udp, NULL, NULL), errno == EOPNOTSUPP);
    printf("%d %d\n", listen(-1, 5), errno == EBADF);
    printf("%d %d\n", accept(12345678, NULL, NULL), errno == EBADF);
    printf("%d %d\n", close(-7), errno == EBADF);
    int fd = bound_socket(AF_INET, 0);
    printf("%d %d\n", accept(fd, NULL, NULL), errno == EINVAL);
    printf("%d open\n", open_fds());
}
