/* The kernel's own speed: what a program reaches that does nothing but hand over ready messages.
 *
 *     fib_limit send FILE      FILE holds buffers, each after its length (u32); every buffer ends
 *                              with a message that is acknowledged, and the answer is awaited
 *     fib_limit dump FAMILY    read the main table, and look at nothing in it (2: IPv4, 10: IPv6)
 *
 * Prints the seconds that it took, reading FILE not included, and the messages refused or received.
 * Exit status 1 when something cannot be done, 2 for wrong usage.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char answer[1 << 16];

static double now(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec + moment.tv_nsec * 1e-9;
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int open_socket(void)
{
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int bytes = 4 << 20, on = 1;
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    setsockopt(descriptor, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    setsockopt(descriptor, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
    return descriptor;
}

/* Receive until the barrier is acknowledged; returns how many messages were refused, or -1. */
static long await_barrier(int descriptor)
{
    long refused = 0;
    for (;;) {
        ssize_t received = recv(descriptor, answer, sizeof answer, 0);
        if (received < 0)
            return -1;
        unsigned left = received;
        for (struct nlmsghdr *message = (void *)answer; NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left)) {
            const struct nlmsgerr *error = NLMSG_DATA(message);
            if (message->nlmsg_type != NLMSG_ERROR)
                continue;
            if (error->error == 0)
                return refused;
            refused++;
        }
    }
}

static int send_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return fail(path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *buffers = malloc(size > 0 ? size : 1);
    if (!buffers || fread(buffers, 1, size, file) != (size_t)size)
        return fail(path);
    fclose(file);
    int descriptor = open_socket();
    if (descriptor < 0)
        return fail("socket");
    long refused = 0;
    double began = now();
    for (long offset = 0; offset < size;) {
        uint32_t length;
        memcpy(&length, buffers + offset, sizeof length);
        offset += sizeof length;
        if (send(descriptor, buffers + offset, length, 0) < 0)
            return fail("send");
        long of_this = await_barrier(descriptor);
        if (of_this < 0)
            return fail("recv");
        refused += of_this;
        offset += length;
    }
    printf("%.6f %ld\n", now() - began, refused);
    free(buffers);
    close(descriptor);
    return 0;
}

static int dump(int family)
{
    struct {
        struct nlmsghdr header;
        struct rtmsg route;
        struct rtattr attribute;
        uint32_t table;
    } request = {
        .header = {sizeof request, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, 1, 0},
        .route = {.rtm_family = family, .rtm_table = RT_TABLE_MAIN},
        .attribute = {RTA_LENGTH(sizeof(uint32_t)), RTA_TABLE},
        .table = RT_TABLE_MAIN,
    };
    int descriptor = open_socket();
    if (descriptor < 0)
        return fail("socket");
    long count = 0;
    double began = now();
    if (send(descriptor, &request, sizeof request, 0) < 0)
        return fail("send");
    for (;;) {
        ssize_t received = recv(descriptor, answer, sizeof answer, 0);
        if (received < 0)
            return fail("recv");
        const struct nlmsghdr *first = (void *)answer;
        if (first->nlmsg_type == NLMSG_DONE || first->nlmsg_type == NLMSG_ERROR)
            break;
        count++;
        unsigned left = received, over = 0;
        for (const struct nlmsghdr *message = first; NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left))
            over |= message->nlmsg_type == NLMSG_DONE;
        if (over)
            break;
    }
    printf("%.6f %ld\n", now() - began, count);
    close(descriptor);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 3 && !strcmp(arguments[1], "send"))
        return send_file(arguments[2]);
    if (count == 3 && !strcmp(arguments[1], "dump"))
        return dump(atoi(arguments[2]));
    fprintf(stderr, "usage: fib_limit send FILE | dump FAMILY\n");
    return 2;
}
