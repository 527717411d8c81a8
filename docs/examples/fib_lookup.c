/* Look addresses up in routed's FIB: fib_lookup ADDRESS...
 *
 * The snapshot is expected as descriptor 3; docs/snapshot.md shows how to get it there.
 *     cc -I ipc/native -o fib_lookup docs/examples/fib_lookup.c
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "fib_snapshot.h"

int main(int argc, char **argv)
{
    struct stat status;
    struct rfib fib;
    void *base;
    int i;

    if (fstat(3, &status) < 0)
        return perror("descriptor 3"), 2;
    base = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, 3, 0);
    if (base == MAP_FAILED || rfib_init(&fib, base, (size_t)status.st_size) < 0)
        return fprintf(stderr, "descriptor 3 is no snapshot\n"), 2;
    for (i = 1; i < argc; i++) {
        struct rfib_record route;
        struct rfib_next_hop hop = {0};
        uint32_t words[4] = {0};
        int k, found, is_ipv6 = strchr(argv[i], ':') != NULL;

        if (inet_pton(is_ipv6 ? AF_INET6 : AF_INET, argv[i], words) != 1)
            return fprintf(stderr, "%s is not an IP address\n", argv[i]), 2;
        for (k = 0; k < 4; k++)
            words[k] = ntohl(words[k]);
        found = is_ipv6 ? rfib_lookup6(&fib, words, &route, &hop, 1)
                        : rfib_lookup4(&fib, words[0], &route, &hop, 1);
        if (found == RFIB_FOUND)
            printf("%s /%u metric %u dev %.16s\n", argv[i], rfib_prefix_len(&route), route.metric,
                   hop.ifname);
        else if (found == RFIB_NO_ROUTE)
            printf("%s no route\n", argv[i]);
        else
            return fprintf(stderr, "the snapshot is damaged or too busy\n"), 1;
    }
    return 0;
}
