/*
 * Load on servers, in one epoll loop on loopback: users on WebSockets, a bot that posts replies,
 * and its Concierge, which takes what users say. Nothing is judged here: what was sent and what
 * came, with the time of each, goes to a file of events, counts go to standard output.
 *
 * The driver (load.py) and this program take turns. Once all sockets are open it writes a line of
 * JSON; the first line that it gets starts the load; when that is over it writes a second line of
 * JSON; with the next line, or the end of input, it closes its sockets and exits.
 *
 * Messages are numbered from 0 in the member "n"; message n of users is one of user n % sockets.
 */
#define _GNU_SOURCE
#include "links.h"
#include "options.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const char ACCEPTED[] = "HTTP/1.1 204 No Content\r\n\r\n";
enum { HANDSHAKES = 64, READ = 16 * 1024, TURN = 256, CLOSES = 5000, STATUSES = 600 };
static const int64_t FAREWELL = 3 * SECOND; /* that closing the sockets may take */
static const int64_t GATHERING = 60 * SECOND; /* that opening them may take */

/* ---- State ---------------------------------------------------------------------------------- */

enum phase { CONNECTING, READY, RUNNING, DRAINING, DONE, CLOSING };

struct sent { /* a request of the bot, or a message of a user */
    int64_t due, answered;
    int32_t status, unused;
};

struct receipt {
    int64_t at;
    int32_t message, user;
};

struct reply { /* that the Concierge owes */
    int64_t due;
    struct link *caller;
};

static enum phase phase = CONNECTING;
static int timer;
static int64_t armed; /* what it is set to */
static struct link **users, **posters;
static char **request; /* the bot's requests, request[n + 1] is where n ends */
static struct sent *sent;
static struct receipt *receipts;
static struct reply *replies;
static long requests, receipts_room, replies_room, first_reply, last_reply;
static long next_user, handshakes, connected, open_sockets, refused, due_next;
static char *seen; /* by the number of a message */
static long posted, answered, accepted, said, received, different, strange, pings, broken;
static long closes[CLOSES], statuses[STATUSES];
static int64_t began, stopped, over; /* of the load, of sending, of receiving */
static double cpu_began, cpu_over;

static double cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
        + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- What is noted --------------------------------------------------------------------------- */

static long number_after(const struct bytes *bytes, size_t size, const char *key)
{
    char *found = memmem(bytes->data, size, key, strlen(key));
    return found ? atol(found + strlen(key)) : -1;
}

/* Return whether the message has come for the first time. */
static bool note(long message, long user)
{
    if (message < 0 || message >= options.messages + requests * options.batch) {
        strange++;
        return false;
    }
    bool first = !seen[message];
    seen[message] = 1;
    different += first;
    if (received == receipts_room) {
        receipts_room = 2 * receipts_room + 4096;
        receipts = resized(receipts, receipts_room * sizeof *receipts);
    }
    receipts[received++] = (struct receipt){now(), message, user};
    return first;
}

static void write_events(void)
{
    FILE *file = fopen(options.events, "w");
    int64_t counts[] = {options.messages ? options.messages : requests, received};
    if (!file)
        die("%s: %s", options.events, strerror(errno));
    fwrite(counts, sizeof counts, 1, file);
    fwrite(sent, sizeof *sent, counts[0], file);
    fwrite(receipts, sizeof *receipts, received, file);
    if (fclose(file))
        die("%s: %s", options.events, strerror(errno));
}

static void print_counts(const char *name, const long *counts, int size)
{
    const char *comma = "";
    printf(", \"%s\": {", name);
    for (int key = 0; key < size; key++)
        if (counts[key]) {
            printf("%s\"%d\": %ld", comma, key, counts[key]);
            comma = ", ";
        }
    printf("}");
}

static void print_result(void)
{
    printf("{\"began\": %.9f, \"seconds\": %.6f, \"cpu\": %.6f", began / 1e9, (over - began) / 1e9,
           cpu_over - cpu_began);
    printf(", \"posted\": %ld, \"said\": %ld, \"received\": %ld, \"strange\": %ld", posted, said,
           received, strange);
    printf(", \"pings\": %ld, \"broken\": %ld, \"open\": %ld", pings, broken, open_sockets);
    print_counts("statuses", statuses, STATUSES);
    print_counts("closes", closes, CLOSES);
    printf("}\n");
    fflush(stdout);
}

/* ---- Users ----------------------------------------------------------------------------------- */

/* Frames are masked with zeros, which is as valid as any other key. */
static void send_frame(struct link *user, int opcode, const char *payload, size_t size)
{
    char frame[1024] = {0};
    size_t head = size < 126 ? 2 : 4;
    if (head + 4 + size > sizeof frame)
        die("a frame of %zu bytes", size);
    frame[0] = (char)(0x80 | opcode);
    frame[1] = (char)(0x80 | (size < 126 ? size : 126));
    if (head == 4) {
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
    }
    memcpy(frame + head + 4, payload, size);
    send_bytes(user, frame, head + 4 + size);
}

static void talk(struct link *user)
{
    char text[256];
    while (phase == RUNNING && user->under_way < options.window && user->next < options.messages) {
        int size = snprintf(text, sizeof text,
            "{\"message\":\"How much is a ticket to the coast on Sunday, and is there a fare for"
            " children?\",\"payload\":{\"n\":%ld}}", user->next);
        sent[user->next].due = now();
        user->next += options.sockets;
        user->under_way++;
        said++;
        send_frame(user, 1, text, size);
    }
}

static int dial_server(long index)
{
    return dial(options.run, index, options.ports[index % options.servers]);
}

static void greet(struct link *user)
{
    char text[256];
    int size = snprintf(text, sizeof text,
        "GET /?session=bench-%06ld-%06ld HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", options.run, user->index);
    send_bytes(user, text, size);
}

static void invite(void)
{
    for (; next_user < options.sockets && handshakes < HANDSHAKES; next_user++, handshakes++) {
        users[next_user] = watched(USER, dial_server(next_user), next_user);
        greet(users[next_user]);
    }
}

static void lose_user(struct link *user)
{
    if (!user->open) {
        refused++;
        handshakes--;
    } else {
        open_sockets--;
        closes[1006] += !user->said_goodbye;
    }
    shut(user);
}

static void take_frame(struct link *user, int opcode, const char *payload, size_t size)
{
    struct bytes text = {.data = (char *)payload};
    if (opcode == 1 || opcode == 2) {
        note(number_after(&text, size, "\"n\":"), user->index);
    } else if (opcode == 9) {
        pings++;
        send_frame(user, 10, payload, size);
    } else if (opcode == 8 && !user->said_goodbye) {
        int code = size < 2 ? 1005 : (uint8_t)payload[0] << 8 | (uint8_t)payload[1];
        closes[code < CLOSES ? code : 0]++;
        user->said_goodbye = true;
        send_frame(user, 8, payload, size < 2 ? 0 : 2);
    }
}

/* Return how many bytes the first frame has; 0 if it is not there yet. */
static size_t frame_of(struct link *user)
{
    const uint8_t *data = (uint8_t *)user->in.data;
    size_t head = 2, size = user->in.used < 2 ? 0 : data[1] & 127;
    if (size == 126)
        head = 4;
    if (user->in.used < head)
        return 0;
    if (size == 127)
        die("a frame of more than 64 KiB");
    if (head == 4)
        size = data[2] << 8 | data[3];
    if (user->in.used < head + size)
        return 0;
    take_frame(user, data[0] & 15, user->in.data + head, size);
    return head + size;
}

static size_t upgrade_of(struct link *user)
{
    char *end = memmem(user->in.data, user->in.used, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (memcmp(user->in.data, "HTTP/1.1 101 ", 13)) {
        lose_user(user);
        return 0;
    }
    user->open = true;
    connected++;
    open_sockets++;
    handshakes--;
    return end + 4 - user->in.data;
}

/* ---- The bot --------------------------------------------------------------------------------- */

static int64_t due_at(long number)
{
    return options.rate ? began + number * SECOND / options.rate : began;
}

static void post(struct link *poster)
{
    long number = poster->next;
    if (phase != RUNNING || poster->under_way >= 0 || number >= requests || due_at(number) > now())
        return;
    poster->under_way = number;
    poster->next += options.posters;
    sent[number].due = options.rate ? due_at(number) : now();
    posted++;
    send_bytes(poster, request[number] + 4, request[number + 1] - request[number] - 4);
}

static void post_what_is_due(void)
{
    for (; options.rate && phase == RUNNING && due_next < requests && due_at(due_next) <= now();
         due_next++)
        post(posters[due_next % options.posters]);
}

static void settle(struct link *poster, int status)
{
    if (poster->under_way >= 0) {
        sent[poster->under_way].answered = now();
        sent[poster->under_way].status = status;
        statuses[status]++;
        answered++;
        accepted += status / 100 == 2;
    }
    poster->under_way = -1;
}

static size_t response_of(struct link *poster)
{
    poster->in.data[poster->in.used] = 0;
    char *end = strstr(poster->in.data, "\r\n\r\n");
    if (!end)
        return 0;
    size_t size = end + 4 - poster->in.data;
    char *length = strcasestr(poster->in.data, "\r\ncontent-length:");
    size += length && length < end ? atol(length + 17) : 0;
    if (poster->in.used < size)
        return 0;
    int status = atoi(poster->in.data + 9);
    settle(poster, status < STATUSES ? status : 0);
    post(poster);
    return size;
}

static void lose_poster(struct link *poster)
{
    shut(poster);
    settle(poster, 0);
    if (phase >= DONE)
        return;
    if (++broken > 1000)
        die("the server breaks links again and again");
    poster->fd = dial_server(poster->index);
    watch(poster, EPOLL_CTL_ADD, EPOLLIN);
    post(poster);
}

static void read_requests(void)
{
    int fd = open(options.requests, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about))
        die("%s: %s", options.requests, strerror(errno));
    char *all = mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (all == MAP_FAILED)
        die("%s: %s", options.requests, strerror(errno));
    for (char *place = all; place <= all + about.st_size; requests++) {
        uint32_t size;
        if (requests % 4096 == 0)
            request = resized(request, (requests + 4096) * sizeof *request);
        request[requests] = place;
        if (place == all + about.st_size)
            return;
        memcpy(&size, place, 4);
        place += 4 + size;
    }
    die("%s is cut off", options.requests);
}

/* ---- The Concierge --------------------------------------------------------------------------- */

static void answer(struct link *caller)
{
    if (caller->fd >= 0)
        send_bytes(caller, ACCEPTED, sizeof ACCEPTED - 1);
}

static void owe(struct link *caller)
{
    if (last_reply == replies_room) {
        replies_room = 2 * replies_room + 1024;
        replies = resized(replies, replies_room * sizeof *replies);
    }
    replies[last_reply++] = (struct reply){now() + options.delay * MS, caller};
}

static void answer_what_is_due(void)
{
    while (first_reply < last_reply && replies[first_reply].due <= now())
        answer(replies[first_reply++].caller);
}

static void hear(const struct bytes *body, size_t size)
{
    char session[32];
    snprintf(session, sizeof session, "\"bench-%06ld-", options.run);
    long message = number_after(body, size, "\"n\":"), user = number_after(body, size, session);
    if (!note(user < 0 ? -1 : message, user)) /* it may be of a run before this one */
        return;
    struct link *speaker = users[message % options.sockets];
    speaker->under_way--;
    if (speaker->fd >= 0)
        talk(speaker);
}

static size_t call_of(struct link *caller)
{
    caller->in.data[caller->in.used] = 0;
    char *end = strstr(caller->in.data, "\r\n\r\n");
    char *length = strcasestr(caller->in.data, "\r\ncontent-length:");
    if (!end)
        return 0;
    struct bytes body = {.data = end + 4};
    size_t size = length && length < end ? atol(length + 17) : 0;
    if (caller->in.data + caller->in.used < body.data + size)
        return 0;
    if (!size)
        die("the Concierge was sent no body, or one without its length");
    hear(&body, size);
    (options.delay ? owe : answer)(caller);
    return body.data + size - caller->in.data;
}

/* ---- The loop -------------------------------------------------------------------------------- */

static size_t take_of(struct link *link)
{
    if (link->kind == USER)
        return link->open ? frame_of(link) : upgrade_of(link);
    return link->kind == POSTER ? response_of(link) : call_of(link);
}

static void lose(struct link *link)
{
    (link->kind == USER ? lose_user : link->kind == POSTER ? lose_poster : shut)(link);
}

static void read_link(struct link *link)
{
    size_t size = 1;
    make_room(&link->in, link->kind == USER && phase < RUNNING ? 1024 : READ);
    ssize_t got = recv(link->fd, link->in.data + link->in.used, link->in.room - link->in.used - 1,
                       MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            lose(link);
        return;
    }
    link->in.used += got;
    while (size && link->fd >= 0 && link->in.used)
        if ((size = take_of(link)))
            consume(&link->in, size);
}

static void start(void)
{
    phase = RUNNING;
    cpu_began = cpu();
    began = now();
    for (long index = 0; index < options.sockets; index++)
        talk(users[index]);
    for (long index = 0; index < options.posters && !options.rate; index++)
        post(posters[index]);
}

static void begin_to_close(void)
{
    phase = CLOSING;
    over = now();
    for (long index = 0; index < options.sockets; index++) {
        if (users[index]->fd < 0 || users[index]->said_goodbye)
            continue;
        users[index]->said_goodbye = true;
        send_frame(users[index], 8, "\x03\xe8", 2);
    }
}

static void obey(int fd)
{
    char line[64];
    ssize_t got = read(fd, line, sizeof line);
    if (got > 0 && phase == READY)
        start();
    else if (got > 0 && phase == DONE)
        begin_to_close();
    else
        exit(got > 0);
}

static void take_callers(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        watched(CALLER, fd, 0);
}

static void serve(struct epoll_event *event)
{
    struct link *link = event->data.ptr;
    uint64_t times;
    if (link->fd < 0)
        return;
    if (link->kind == INPUT)
        obey(link->fd);
    else if (link->kind == LISTENER)
        take_callers(link->fd);
    else if (link->kind == TIMER)
        armed = read(link->fd, &times, sizeof times) < 0 ? armed : 0;
    else if (event->events & EPOLLOUT)
        send_rest(link);
    else
        read_link(link);
}

static bool all_sent(void)
{
    if (options.until_closed)
        return !open_sockets;
    return options.messages + requests && said >= options.messages && posted >= requests;
}

static bool all_received(void)
{
    return answered == posted && different >= accepted * options.batch + said;
}

static void set_phase(void)
{
    int64_t time = now(), end = began + options.milliseconds * MS;
    if (phase == CONNECTING && handshakes == 0 && next_user == options.sockets) {
        phase = READY;
        printf("{\"connected\": %ld, \"refused\": %ld, \"seconds\": %.6f}\n", connected, refused,
               (time - began) / 1e9);
        fflush(stdout);
    }
    if (phase == CONNECTING && time > began + GATHERING)
        die("only %ld of %ld sockets are open", connected, options.sockets);
    if (phase == RUNNING && (all_sent() || time >= end)) {
        phase = DRAINING;
        stopped = time;
    }
    if (phase == DRAINING && !over && (all_received() || time >= stopped + options.patience * MS)) {
        over = time;
        cpu_over = cpu();
    }
    if (phase == DRAINING && over && time >= over + options.aftermath * MS) {
        phase = DONE;
        write_events();
        print_result();
    }
    if (phase == CLOSING && (!open_sockets || time > over + FAREWELL))
        exit(0);
}

static int64_t sooner(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

static void arm(void)
{
    int64_t next = now() + 100 * MS; /* looked at so often in any case */
    if (phase == RUNNING)
        next = sooner(next, began + options.milliseconds * MS);
    if (phase == RUNNING && options.rate && due_next < requests)
        next = sooner(next, due_at(due_next));
    if (phase == DRAINING && over)
        next = sooner(next, over + options.aftermath * MS);
    if (first_reply < last_reply)
        next = sooner(next, replies[first_reply].due);
    if (armed && armed <= next)
        return;
    armed = next;
    struct itimerspec when = {.it_value = {next / SECOND, next % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void loop(void)
{
    struct epoll_event events[TURN];
    for (;;) {
        set_phase();
        if (phase == CONNECTING)
            invite();
        arm();
        int count = epoll_wait(epoll, events, TURN, -1);
        for (int number = 0; number < count; number++)
            serve(&events[number]);
        post_what_is_due();
        answer_what_is_due();
    }
}

/* ---- Beginning ------------------------------------------------------------------------------- */

int main(int count, char **arguments)
{
    read_options(count, arguments);
    if (options.requests)
        read_requests();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watched(TIMER, timer, 0);
    watched(INPUT, STDIN_FILENO, 0);
    if (options.concierge >= 0) {
        fcntl(options.concierge, F_SETFL, O_NONBLOCK);
        watched(LISTENER, options.concierge, 0);
    }
    users = resized(NULL, options.sockets * sizeof *users);
    posters = resized(NULL, (options.posters + 1) * sizeof *posters);
    sent = calloc(options.messages + requests + 1, sizeof *sent);
    seen = calloc(options.messages + requests * options.batch + 1, 1);
    for (long index = 0; index < options.posters; index++) {
        posters[index] = watched(POSTER, dial_server(index), index);
        posters[index]->under_way = -1;
    }
    began = now();
    loop();
}
