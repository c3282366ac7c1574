/* Links in an epoll loop: what is sent leaves at once if it can, else once the link takes more. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind { TIMER, INPUT, LISTENER, USER, POSTER, CALLER };

static const int64_t MS = 1000000, SECOND = 1000000000;

struct bytes {
    char *data;
    size_t used, room;
};

struct link {
    enum kind kind;
    int fd; /* -1 once it is closed */
    long index;
    bool open;         /* USER: after the upgrade */
    bool said_goodbye; /* USER: a Close frame came or went */
    long next;         /* USER, POSTER: the number of the message, or request, to send next */
    long under_way;    /* USER: messages; POSTER: the number of its request, or -1 */
    struct bytes in, out;
};

extern int epoll;

void die(const char *format, ...);
int64_t now(void);
void *resized(void *old, size_t size);

void make_room(struct bytes *bytes, size_t more);
void consume(struct bytes *bytes, size_t count);

struct link *watched(enum kind kind, int fd, long index);
void watch(struct link *link, int how, uint32_t events);
void send_bytes(struct link *link, const char *data, size_t size);
void send_rest(struct link *link);
void shut(struct link *link);
int dial(long run, long index, int port);
