/* What the command line says, as NAME=VALUE. */
#pragma once

enum { PORTS = 16 };

struct options {
    long run;         /* makes sessions and source addresses differ from those of other runs */
    long sockets;     /* users */
    long posters;     /* connections that the bot posts on, one request at a time on each */
    long rate;        /* requests of the bot a second; 0: as soon as the one before is answered */
    long batch;       /* messages in a request */
    long messages;    /* of all users; 0 if they only listen */
    long window;      /* messages of a user that the Concierge has not got yet */
    long delay;       /* milliseconds that the Concierge takes to answer */
    long concierge;   /* descriptor of its listening socket, -1 if there is none */
    long milliseconds; /* after which nothing more is sent */
    long patience;    /* milliseconds that the last messages may take after that */
    long aftermath;   /* milliseconds after all has come, in which what comes twice comes again */
    long until_closed; /* 1: over once all sockets are closed */
    int ports[PORTS]; /* of the servers */
    int servers;
    char *requests;   /* file of the bot's requests, each after its length in 4 bytes */
    char *events;     /* file to write */
};

extern struct options options;

void read_options(int count, char **arguments);
