/* A limit of few descriptors, all of which the program means to use. */
#include "call.h"

int main(int argc, char **argv)
{
    (void)argv;
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 64};
    if (argc == 1) {
        MUST(getrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_cur = 64;
    }
    MUST(setrlimit(RLIMIT_NOFILE, &limit));
    int fd = listener(SOCK_NONBLOCK), epfd = MUST(epoll_create1(0)), used = 0;
    MUST(watch(epfd, fd, EPOLLIN, 1));
    show_wait(epfd, 10);
    int client = client_of(fd);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(fd, "few"));
    printf("%s\n", answer(client));
    struct rlimit after;
    MUST(getrlimit(RLIMIT_NOFILE, &after));
    printf("%d\n", (int)after.rlim_cur);
    while (dup(0) >= 0)
        used++;
    if (argc == 1)
        printf("%d more\n", used);
    printf("%d\n", errno == EMFILE);
}
