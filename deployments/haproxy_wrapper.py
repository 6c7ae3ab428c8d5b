"""Stands in for the HAProxy binary: makes Ray Serve's generated configuration safe for us, then becomes HAProxy.

Serve runs it at every start and reload, with the arguments that it would give to HAProxy. The generated file is changed in
place, because Serve looks for its path in the command line to know its own processes, and the pid stays the same (exec).
What the generated file (Ray 2.60) has, and what we make of it:
- a metrics and a statistics page on all interfaces: removed, nobody here asks them;
- an admin socket open to every user: its owner only;
- Serve's error page, which turns "nobody could answer" (502, 503, 504) into 500: our 503, which says when to come back;
- 404 from HAProxy itself while no application is there, and its own health page, which is green then: 503;
- requests that are first on their connection sent over a used connection to a router: when that router has just died, HAProxy
  closes the client's connection without an answer (measured: always); over a connection of their own they get the 503;
- a log line per request to a syslog port: none; servers that come and go are logged to the standard error file;
- a health check that is green as long as a router's process is: it asks /readyz as well, which searches. A router that is not
  ready is passed by while another is. When none is (a shard is down), requests go to those that live all the same, by a second
  backend with Serve's own check, and get the router's answer, which says what is missing, or what needs no shard.

Runs alone, as a script, under `python -I -S`: standard library only, few imports, for it is in the way of every reload.
"""

import ctypes
import os
import re
import signal
import sys

MESSAGE = (
    "no router is ready, or it went away during the request (then a write may have been applied; it may be repeated); "
    "try again shortly"
)
BODY = '{"status":{"error":"%s"},"time":0}' % MESSAGE  # noqa: UP031 - no json import for one line
RETRY_AFTER_S = 1

_DROPPED_SECTIONS = ("frontend prometheus", "listen stats")
_SECTION = re.compile(r"^(?=(?:global|defaults|frontend|backend|listen)\b)", re.MULTILINE)
_STAND_IN = (
    f"http-request return status 503 content-type application/json string '{BODY}' hdr Retry-After {RETRY_AFTER_S}"
)

READY_PATH = "/readyz"
LIVE_SUFFIX = "-live"
_LIVENESS = re.compile(r"\n    option httpchk GET (\S+)\n    http-check expect status 200\n")

_PR_SET_PDEATHSIG = 1


def rewrite(config: str, bind: str, error_page: str) -> str:
    """The generated configuration, made safe. `bind` is the one address to listen on, `error_page` a file's path.

    Raises ValueError when the text is not as expected, rather than let something open through.
    """
    sections = [section for section in _SECTION.split(config) if not section.startswith(_DROPPED_SECTIONS)]
    changed = "".join(_rewrite_section(section, bind, error_page) for section in sections)
    binds = re.findall(r"^\s*bind\s+(.*)$", changed, re.MULTILINE)
    if binds != [bind] or " mode 666" in changed or changed.count(_STAND_IN) != 1:
        raise ValueError(f"HAProxy's generated configuration is not as expected (binds: {binds})")
    return changed


def _rewrite_section(section: str, bind: str, error_page: str) -> str:
    kind, _, name = section.partition("\n")[0].partition(" ")
    if kind == "global":
        section = re.sub(r"(\n\s*stats socket .*) mode 666\b", r"\1 mode 600", section)
        return re.sub(r"(\n\s*log) .*", r"\1 stderr format raw local0 notice", section)
    if kind == "defaults":
        section = re.sub(r"(\n\s*errorfile 50[234]) .*", rf"\1 {error_page}", section)
        return re.sub(r"\n\s*option httplog\b.*", "", section)
    if (kind, name) == ("frontend", "http_frontend"):
        section = re.sub(r"(\n\s*bind) .*(\n    no log)?", rf"\1 {bind}\n    no log", section)
        section = re.sub(r"\n.*\b(healthcheck|routes|log global|nbsrv)\b.*", "", section)
        return re.sub(
            r"\n( *use_backend) (\S+) if (\S+)(?=\n)",
            rf"\n\1 \2{LIVE_SUFFIX} if \3 {{ nbsrv(\2) eq 0 }}\n\1 \2 if \3",
            section,
        )
    if (kind, name) == ("backend", "default_backend"):
        return f"backend default_backend\n    {_STAND_IN}\n"
    if kind == "backend":
        return _rewrite_routers(section.replace("http-reuse always", "http-reuse safe"), name)
    return section


def _rewrite_routers(section: str, name: str) -> str:
    """The backend of an application's routers twice: those that are ready, and those that live."""
    if name.endswith(LIVE_SUFFIX) or f" uri {READY_PATH}\n" in section:  # a file that was rewritten before
        return section
    liveness = _LIVENESS.search(section)
    if liveness is None:
        raise ValueError(f"HAProxy's generated configuration is not as expected (no health check of {name})")
    steps = [f"http-check send meth GET uri {path}" for path in (liveness[1], READY_PATH)]
    both = "".join(f"    http-check connect\n    {step}\n    http-check expect status 200\n" for step in steps)
    ready = section.replace(liveness[0], f"\n    option httpchk\n{both}")
    live = section.replace(f"backend {name}\n", f"backend {name}{LIVE_SUFFIX}\n", 1)
    return ready.rstrip("\n") + "\n" + live


def error_page() -> str:
    """A whole HTTP answer, as HAProxy's `errorfile` wants it."""
    head = [
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
        f"Retry-After: {RETRY_AFTER_S}",
        "Cache-Control: no-store",
    ]
    return "\r\n".join([*head, "", BODY])


def main(arguments: list[str]) -> None:
    """`arguments`: the real binary, the address to bind, the error page's path, then HAProxy's own arguments."""
    binary, bind, page, *rest = arguments
    # A HAProxy without its manager would keep the port and serve a frozen list of routers. SIGUSR1 closes the port at
    # once and lets running requests finish.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1, 0, 0, 0)
    if "-f" in rest:  # not when only asked for its version
        path = rest[rest.index("-f") + 1]
        with open(path, encoding="utf-8") as file:
            changed = rewrite(file.read(), bind, page)
        temporary = path + ".shoal"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(changed)
        os.replace(temporary, path)
    os.execv(binary, [binary, *rest])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
