/* One listener in an epoll set, registered as the argument says: the events, and their times. */
#include "call.h"

int main(int argc, char **argv)
{
    (void)argc;
    const struct {
        const char *name;
        uint32_t events;
    } modes[] = {{"level", EPOLLIN},
                 {"edge", EPOLLIN | EPOLLET},
                 {"oneshot", EPOLLIN | EPOLLONESHOT},
                 {"exclusive", EPOLLIN | EPOLLEXCLUSIVE},
                 {"rdhup", EPOLLIN | EPOLLRDHUP}};
    uint32_t how = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(argv[1], modes[i].name) == 0)
            how = modes[i].events;
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, fd, how, 0x123456789abcdef0));
    show_wait(epfd, 0);
    show_wait(epfd, 20);
    for (int round = 0; round < 3; round++) {
        int one = client_of(fd), two = client_of(fd);
        show_wait(epfd, 5000);
        serve(MUST(accept(fd, NULL, NULL)), "first");
        printf("%s\n", answer(one));
        show_wait(epfd, 20); /* level: reported again; edge, oneshot: not */
        printf("served %d\n", serve_all(fd, "rest"));
        printf("%s\n", answer(two));
        show_wait(epfd, 20);
        struct epoll_event event = {.events = how, .data.u64 = (uint64_t)round};
        printf("mod: %d\n", how & EPOLLEXCLUSIVE ? 0 : epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event));
    }
    printf("add again: %d %d\n", watch(epfd, fd, how, 1), errno == EEXIST);
    printf("del: %d\n", epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
    printf("del again: %d %d\n", epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL), errno == ENOENT);
    int client = client_of(fd);
    show_wait(epfd, 20);
    MUST(watch(epfd, fd, how, 2));
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "last"));
    printf("%s\n", answer(client));
    close(fd);
    show_wait(epfd, 20);
    close(epfd);
    printf("%d open\n", open_fds());
}
