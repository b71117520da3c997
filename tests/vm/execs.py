"""Every program that is started in a guest, with its arguments and environment, as its kernel sees them.

Kprobe events at the system calls (kernel, Documentation/trace/kprobetrace.rst): nothing that starts is missed however
short it lives, and a guest under emulation pays next to nothing; a loop over /proc costs it a fifth of its time.
"""

from __future__ import annotations

import secrets
import time

from tests.vm.guest import Guest

_LOG = "/run/execs.log"
_TRACING = "/sys/kernel/tracing"
#: System call, and where struct pt_regs has the argument on x86-64: both are lists that end with a null pointer.
_LISTS = {
    "argv": ("execve", 104),
    "envp": ("execve", 96),
    "argv_at": ("execveat", 96),
    "envp_at": ("execveat", 56),
}
_STRINGS = 64
_LATE_S = 60


def _probe(name: str) -> str:
    call, offset = _LISTS[name]
    strings = " ".join(f"+u0(+u{8 * n}(+{offset}(%di))):ustring" for n in range(_STRINGS))
    return f"p:airgap/{name} __x64_sys_{call} {strings}"


_WATCH = f"""\
#!/bin/sh -e
cd {_TRACING}
echo 32 >buffer_subbuf_size_kb # one event is one start, and never more than this
echo 4096 >buffer_size_kb
{"".join(f"echo '{_probe(name)}' >>kprobe_events; " for name in _LISTS)}
echo 1 >events/airgap/enable
exec cat trace_pipe >>{_LOG}
"""


def watch(guest: Guest) -> None:
    """Begin, until the guest's next boot."""
    guest.put(_WATCH.encode(), "/run/watch-execs", 0o700)
    guest.run("setsid -f sh -e /run/watch-execs </dev/null >/run/watch-execs.said 2>&1")
    seen(guest)


def seen(guest: Guest) -> str:
    """All that was started so far.

    Raises:
        AssertionError: something was started and got lost.
    """
    mark = f"mark-{secrets.token_hex(8)}"
    # A pattern that does not match itself: it is an argument too.
    look = f"env mark={mark} true {mark}; grep -q '{mark[:-1]}[{mark[-1]}]' {_LOG}"
    deadline = time.monotonic() + _LATE_S
    while guest.run(look, check=False).rc:
        assert time.monotonic() < deadline, guest.run("cat /run/watch-execs.said").text
        time.sleep(1)
    lost = guest.run(f"cat {_TRACING}/per_cpu/cpu*/stats | grep -E '^(overrun|dropped events): [1-9]'", check=False)
    assert lost.rc == 1, lost.text
    return guest.get(_LOG).decode(errors="replace").replace("=(fault)", "")
