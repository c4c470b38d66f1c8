/* Sixteen threads in accept(2), each ten times. */
#include "call.h"

enum { THREADS = 16 };

static int fd;

static void *accepts(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10; i++)
        serve(accept(fd, NULL, NULL), "thread");
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int good = 0;
    fd = listener(0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, accepts, NULL);
    for (int i = 0; i < 10 * THREADS; i++)
        good += strcmp(answer(client_of(fd)), "thread") == 0;
    printf("%d\n", good);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}
