/* SO_RCVTIMEO of a listener that blocks, and has a claimed slot. */
#include "call.h"

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0));
    struct timeval time = {.tv_usec = 200000};
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    MUST(fcntl(fd, F_SETFL, O_RDWR));
    MUST(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    printf("%d %d\n", accept(fd, NULL, NULL), errno == EAGAIN);
    int client = client_of(fd);
    serve(MUST(accept(fd, NULL, NULL)), "in time");
    printf("%s\n", answer(client));
}
