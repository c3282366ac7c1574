#define _GNU_SOURCE
#include "links.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int epoll;

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

void *resized(void *old, size_t size)
{
    void *new = realloc(old, size);
    if (!new)
        die("no memory");
    return new;
}

void make_room(struct bytes *bytes, size_t more)
{
    if (bytes->room - bytes->used >= more)
        return;
    bytes->room = 2 * bytes->used + more;
    bytes->data = resized(bytes->data, bytes->room);
}

void consume(struct bytes *bytes, size_t count)
{
    bytes->used -= count;
    memmove(bytes->data, bytes->data + count, bytes->used);
}

void watch(struct link *link, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = link};
    if (epoll_ctl(epoll, how, link->fd, &event))
        die("epoll_ctl: %s", strerror(errno));
}

struct link *watched(enum kind kind, int fd, long index)
{
    struct link *link = resized(NULL, sizeof *link);
    *link = (struct link){.kind = kind, .fd = fd, .index = index, .next = index, .under_way = 0};
    watch(link, EPOLL_CTL_ADD, EPOLLIN);
    return link;
}

void send_bytes(struct link *link, const char *data, size_t size)
{
    ssize_t gone = link->out.used ? 0 : send(link->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (gone < 0)
        gone = 0; /* a link that broke is noticed when it is read */
    if ((size_t)gone == size)
        return;
    make_room(&link->out, size - gone);
    memcpy(link->out.data + link->out.used, data + gone, size - gone);
    link->out.used += size - gone;
    watch(link, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

void send_rest(struct link *link)
{
    ssize_t gone = send(link->fd, link->out.data, link->out.used, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (gone < 0 && errno != EAGAIN)
        gone = link->out.used; /* the link broke, which is noticed when it is read */
    if (gone > 0)
        consume(&link->out, gone);
    if (!link->out.used)
        watch(link, EPOLL_CTL_MOD, EPOLLIN);
}

void shut(struct link *link)
{
    close(link->fd);
    link->fd = -1;
    link->in.used = link->out.used = 0;
}

/* Each run has addresses of its own in 127.0.0.0/8: ports in TIME_WAIT are in nobody's way. */
int dial(long run, long index, int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(0x7f000001 + (run % 200 << 8) + (index / 10000 << 16));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from))
        die("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&to, sizeof to))
        die("connect to port %d: %s", port, strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}
