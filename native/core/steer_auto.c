/* SPDX-License-Identifier: MIT
 *
 * Facts about receive queues, which decide whether `cpu` steering can work: a SYN is handled on
 * the core that its queue's interrupt (or RPS) chose. On loopback that is the client's own core,
 * and a card with one queue and no RPS uses a single core: there `cpu` would feed one worker.
 */
#include "steer.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* RPS masks are hexadecimal groups split by commas, all zero when RPS is off. */
static bool rps_on(const char *interface, const char *queue)
{
    char path[320], mask[1024] = "";
    snprintf(path, sizeof path, "/sys/class/net/%s/queues/%s/rps_cpus", interface, queue);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool on = fgets(mask, sizeof mask, file) && strspn(mask, "0,\n") != strlen(mask);
    fclose(file);
    return on;
}

static int receive_queues(const char *interface, bool *rps)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/class/net/%.15s/queues", interface);
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    int queues = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strncmp(entry->d_name, "rx-", 3) == 0) {
            queues++;
            *rps = *rps || rps_on(interface, entry->d_name);
        }
    closedir(dir);
    return queues;
}

static bool is_any(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

enum fs_steer steer_choose(const struct sockaddr *address, char why[FS_WHY_MAX])
{
    if (is_loopback(address)) {
        snprintf(why, FS_WHY_MAX, "loopback: a connection arrives on its client's core");
        return FS_STEER_SPREAD;
    }
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0) {
        snprintf(why, FS_WHY_MAX, "network interfaces cannot be listed: %s", strerror(errno));
        return FS_STEER_SPREAD;
    }
    bool any = is_any(address), several = false;
    snprintf(why, FS_WHY_MAX, "no interface has more than one receive queue, and RPS is off");
    for (struct ifaddrs *i = all; i && !several; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        if (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6)
            continue;
        if (!any && !same_host(i->ifa_addr, address))
            continue;
        bool rps = false;
        int queues = receive_queues(i->ifa_name, &rps);
        several = queues > 1 || rps;
        if (several)
            snprintf(why, FS_WHY_MAX, "%.15s has %d receive queue%s%s", i->ifa_name, queues,
                     queues == 1 ? "" : "s", rps ? " and RPS on" : "");
        else if (!any)
            snprintf(why, FS_WHY_MAX, "%.15s has one receive queue and RPS is off", i->ifa_name);
    }
    freeifaddrs(all);
    return several ? FS_STEER_CPU : FS_STEER_SPREAD;
}
