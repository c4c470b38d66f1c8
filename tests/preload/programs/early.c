/* With early_library.c: a constructor that ran before the preloaded library's made the listener. */
#include "call.h"

extern int early_listener;

int main(void)
{
    int epfd = MUST(epoll_create1(0));
    MUST(watch(epfd, early_listener, EPOLLIN, 1));
    show_wait(epfd, 10);
    int client = client_of(early_listener);
    show_wait(epfd, 5000);
    printf("served %d\n", serve_all(early_listener, "early"));
    printf("%s\n", answer(client));
}
