#define _GNU_SOURCE
#include "options.h"
#include "links.h"
#include <stdlib.h>
#include <string.h>

struct options options = {
    .batch = 1, .window = 1, .concierge = -1, .milliseconds = 1000, .patience = 2000,
    .aftermath = 50,
};

static void read_ports(char *text)
{
    for (char *port = strtok(text, ","); port && options.servers < PORTS; port = strtok(NULL, ","))
        options.ports[options.servers++] = atoi(port);
}

static void read_option(char *argument)
{
    static const struct {
        const char *name;
        long *value;
    } numbers[] = {
        {"run", &options.run}, {"sockets", &options.sockets}, {"posters", &options.posters},
        {"rate", &options.rate}, {"batch", &options.batch}, {"messages", &options.messages},
        {"window", &options.window}, {"delay", &options.delay},
        {"concierge", &options.concierge}, {"milliseconds", &options.milliseconds},
        {"patience", &options.patience}, {"aftermath", &options.aftermath},
        {"until_closed", &options.until_closed},
    };
    char *value = strchr(argument, '=');
    if (!value)
        die("%s is not NAME=VALUE", argument);
    *value++ = 0;
    for (size_t index = 0; index < sizeof numbers / sizeof *numbers; index++)
        if (!strcmp(argument, numbers[index].name)) {
            *numbers[index].value = atol(value);
            return;
        }
    if (!strcmp(argument, "ports"))
        read_ports(value);
    else if (!strcmp(argument, "requests"))
        options.requests = value;
    else if (!strcmp(argument, "events"))
        options.events = value;
    else
        die("there is no option %s", argument);
}

void read_options(int count, char **arguments)
{
    for (int index = 1; index < count; index++)
        read_option(arguments[index]);
    if (!options.servers || !options.sockets || !options.events)
        die("ports, sockets and events are needed");
}
