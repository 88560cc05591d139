"""The phases of a connection of our HTTP/1.1 server, in their order.

A phase is set between reads: what one read brings whole passes through none of HEAD and BODY.

| phase | what happens | its time (ConnectionLimits) | at its end |
|---|---|---|---|
| IDLE | nothing has come since the last answer | `idle_time`; when the server closes, `closing_time` | it closes |
| HEAD | a request's head arrives | `header_time` | 408 |
| BODY | a request's body arrives | `body_time` for every 4 KB | 408 |
| HANDLING | the handler works on a request that is whole, or has paused its body | none: the peer waits | |
| ENDING | the same, for the last request or before the answer to one that is refused | none | |
| LINGERING | the last answer is out, and what the peer still sends is thrown away | `linger_time` | it breaks |
| CLOSING | the last answer is on its way out, and then it closes | `linger_time` | it breaks |
| LOST | there is no connection any more | none | |

From ENDING on nothing more is parsed.
"""

from __future__ import annotations

from typing import Final

NAMES: Final = ("idle", "head", "body", "handling", "ending", "lingering", "closing", "lost")

# Numbers, because their order counts, and a name of a module's own is the cheapest to read.
IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
HANDLING: Final = 3
ENDING: Final = 4
LINGERING: Final = 5
CLOSING: Final = 6
LOST: Final = 7
