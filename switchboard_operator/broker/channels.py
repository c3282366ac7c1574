"""The channels in Redis over which postbacks go."""

ANYBODYS = "bot-message"  # a JSON object in each message, from anybody and for anybody
OWN = "switchboard:postbacks"  # bundles, from instances and for instances

PROBE = "~probe."  # begins the `to` of what is addressed to nobody: `~` is in no session's alphabet
NOTHING = f'{{"to":"{PROBE}"}}'
