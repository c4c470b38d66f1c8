/* The three wait calls; a set in a set; the listener next to other descriptors; its own mask. */
#include "call.h"

int main(void)
{
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0)), ends[2];
    MUST(pipe(ends));
    MUST(watch(epfd, fd, EPOLLIN, 1));
    MUST(watch(epfd, ends[0], EPOLLIN, 2));
    struct epoll_event events[4];
    printf("%d\n", epoll_wait(epfd, events, 4, 10));
    int client = client_of(fd);
    MUST(write(ends[1], "x", 1));
    int count = epoll_pwait(epfd, events, 4, 5000, NULL), sum = 0;
    for (int i = 0; i < count; i++)
        sum += (int)events[i].data.u64;
    printf("%d %d\n", count, sum);
    struct timespec time = {5, 0};
    printf("%d\n", epoll_pwait2(epfd, events, 4, &time, NULL));
    printf("%d\n", epoll_pwait2(epfd, events, 1, &time, NULL));
    printf("served %d\n", serve_all(fd, "one"));
    printf("%s\n", answer(client));
    printf("%d\n", epoll_wait(epfd, events, 4, 5000));
    printf("bad: %d %d\n", epoll_wait(epfd, events, 0, 0), errno == EINVAL);

    int outer = MUST(epoll_create1(0));
    char byte;
    MUST(read(ends[0], &byte, 1));
    MUST(watch(outer, epfd, EPOLLIN, 3));
    show_wait(outer, 20);
    client = client_of(fd);
    show_wait(outer, 5000);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "two"));
    printf("%s\n", answer(client));
    show_wait(epfd, 10);
    show_wait(outer, 10);
    int copy = MUST(dup(epfd));
    close(epfd);
    client = client_of(fd);
    show_wait(copy, 5000);
    printf("served %d\n", serve_all(fd, "three"));
    printf("%s\n", answer(client));
}
