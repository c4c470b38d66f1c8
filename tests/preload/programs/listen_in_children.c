/* Bound by the parent, listened on by each of two children (uvicorn's workers, Node's SCHED_NONE):
 * both are served, and one that hangs does not keep the other from serving. */
#include "call.h"

int main(void)
{
    int fd = bound_socket(AF_INET, SOCK_NONBLOCK), told[2], control[2], good = 0, counts[2] = {0};
    pid_t pids[2];
    char byte;
    MUST(pipe(told));
    MUST(pipe(control));
    for (int i = 0; i < 2; i++) {
        pids[i] = MUST(fork());
        if (pids[i] == 0) {
            MUST(listen(fd, 64));
            MUST(write(told[1], "x", 1));
            worker(fd, control[0], i ? "1" : "0");
            _exit(0);
        }
        MUST(read(told[0], &byte, 1));
    }
    usleep(100000);
    for (int i = 0; i < 100; i++) {
        const char *who = answer(client_of(fd));
        good += strlen(who) == 1;
        counts[who[0] == '1']++;
    }
    printf("%d\n", good);
    int status;
    MUST(kill(pids[0], SIGSTOP));
    MUST(waitpid(pids[0], &status, WUNTRACED)); /* it has stopped, and does not wait any more */
    for (int i = 0; i < 10; i++)
        printf("%s\n", answer(client_of(fd)));
    for (int i = 0; i < 2; i++) {
        MUST(kill(pids[i], SIGKILL));
        waitpid(pids[i], NULL, 0);
    }
}
