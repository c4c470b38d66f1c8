/* A listener is shut down, which ends the queue of all processes that have it; then it listens
 * again. */
#include "call.h"

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    socklen_t length;
    struct sockaddr_storage name = name_of(fd, &length);
    printf("write side: %d\n", shutdown(fd, SHUT_WR));
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "one"));
    printf("%s\n", answer(client));
    printf("read side: %d\n", shutdown(fd, SHUT_RD));
    for (int i = 0; i < 5; i++) {
        client = MUST(socket(AF_INET, SOCK_STREAM, 0));
        int rc = connect(client, (struct sockaddr *)&name, length); printf("connect: %d %d\n", rc,
               errno == ECONNREFUSED);
        close(client);
    }
    int rc = accept(fd, NULL, NULL); printf("accept: %d %s\n", rc, strerror(errno));
    printf("listen: %d\n", listen(fd, 16));
    printf("listen: %d\n", listen(fd, 32));
    for (int i = 0; i < 5; i++) {
        client = client_of(fd);
        show_wait(epfd, 5000);
        printf("served %d\n", serve_all(fd, "again"));
        printf("%s\n", answer(client));
    }
}
