/* SPDX-License-Identifier: MIT */
#include "steer.h"
#include "socket.h"

#include <errno.h>

static struct sock_filter load(uint32_t what)
{
    return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + what);
}

/* rand mod count, then one comparison per member; `cpu` >= 0 takes only that core's members. */
static size_t emit_spread(struct sock_filter *out, const struct steer_member *live, size_t count,
                          int cpu)
{
    size_t n = 0, left = 0;
    for (size_t i = 0; i < count; i++)
        left += cpu < 0 || live[i].cpu == cpu;
    if (left > 1) {
        out[n++] = load(SKF_AD_RANDOM);
        out[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, (uint32_t)left);
    }
    for (size_t i = 0; i < count; i++) {
        if (cpu >= 0 && live[i].cpu != cpu)
            continue;
        if (--left > 0)
            out[n++] =
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)left, 0, 1);
        out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, live[i].member);
    }
    return n;
}

/* Whether an earlier member has the same core: its block serves them all. */
static bool core_done(const struct steer_member *live, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (live[j].cpu == live[i].cpu)
            return true;
    return false;
}

size_t steer_program(struct sock_filter *out, enum fs_steer mode, const struct steer_member *live,
                     size_t count)
{
    size_t n = 0;
    if (count == 0) {
        out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
        return n;
    }
    if (mode == FS_STEER_CPU) {
        out[n++] = load(SKF_AD_CPU);
        for (size_t i = 0; i < count; i++) {
            if (live[i].cpu < 0 || core_done(live, i))
                continue;
            /* A conditional jump reaches 255 instructions, JA reaches all. A core's block always
             * returns, so the accumulator still holds the core when the next core is compared. */
            out[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                    (uint32_t)live[i].cpu, 1, 0);
            size_t skip = n++;
            size_t block = emit_spread(out + n, live, count, live[i].cpu);
            out[skip] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)block);
            n += block;
        }
    }
    return n + emit_spread(out + n, live, count, -1);
}

int steer_attach(int fd, const struct sock_filter *program, size_t length)
{
    return fs_socket_attach(fd, SO_ATTACH_REUSEPORT_CBPF, program, length);
}
