"""`loop.getaddrinfo` and `loop.getnameinfo` answer as the socket module does, where a server is asked.

The tables are those of the Rust tests, with the same hosts file. They are asked in namespaces of the
test's own, where nsd is the name server, once as text and once as bytes, of both drivers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "crates" / "tepal-names" / "tests" / "data"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = ("unshare", "ip", "nsd", "ss")

ZONE = """$ORIGIN test.
$TTL 60
. IN SOA ns admin 1 2 3 4 60
. IN NS ns
ns IN A 127.0.0.1
one IN A 192.0.2.80
short.a IN A 192.0.2.80
inb.b IN A 192.0.2.80
_under IN A 192.0.2.80
xn--bcher-kva IN A 192.0.2.80
two IN A 192.0.2.80
two IN AAAA 2001:db8::80
six IN AAAA 2001:db8::80
alias IN CNAME middle
middle IN CNAME two
nodata IN TXT "no address"
half.b IN TXT "no address"
half.x.b IN TXT "no address"
mixed.b IN TXT "no address"
alone. IN TXT "no address"
80.2.0.192.in-addr.arpa. IN PTR one
""" + "".join(f"big IN A 198.51.100.{last}\n" for last in range(1, 101))

NSD = """server:
  ip-address: 127.0.0.1
  username: ""
  chroot: ""
  zonesdir: "/mnt"
  database: ""
  pidfile: "/mnt/nsd.pid"
  xfrdfile: "/mnt/xfrd"
  zonelistfile: "/mnt/zones"
  xfrdir: "/mnt"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: zone
""" + "".join(
    f'zone:\n  name: "{name}"\n  zonefile: missing\n'
    for name in ("servfail.test", "broken.a.test", "broken.x.a.test", "mixed.a.test")
)

SCRIPT = """set -e
ip link set lo up
ip addr add 192.0.2.10/24 dev lo
ip -6 addr add 2001:db8::10/64 dev lo nodad
mount -t tmpfs tmpfs /mnt
cp "$1/addrinfo.hosts" /mnt/hosts
printf 'nameserver 127.0.0.1\\nsearch a.test b.test\\noptions timeout:2 attempts:2\\n' > /mnt/resolv.conf
echo 'hosts: files dns' > /mnt/nsswitch.conf
: > /mnt/gai.conf
for file in hosts resolv.conf nsswitch.conf gai.conf; do
  touch /etc/$file 2>/dev/null || true
  mount --bind /mnt/$file /etc/$file
done
printf %s "$ZONE" > /mnt/zone
printf %s "$NSD" > /mnt/nsd.conf
nsd -d -c /mnt/nsd.conf >/dev/null 2>&1 &
for i in $(seq 200); do
  ss -lun | grep -q '127.0.0.1:53 ' && break
  sleep 0.05
done
exec "$2" -X dev -W error -c "$CODE" "$1"
"""

CODE = """
import asyncio, os, socket, sys
from pathlib import Path
import tepal

def rows(name):
    lines = (Path(sys.argv[1]) / name).read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            cells = [None if cell == "-" else "" if cell == '""' else cell for cell in line.split("\\t")]
            yield cells

def told(error):
    return (type(error), error.errno, error.strerror) if isinstance(error, OSError) else type(error)

def theirs_of(call):
    try:
        found = call()
    except Exception as error:
        return told(error)
    if isinstance(found, list):
        # glibc gives ::1 of the hosts file twice where it stands for 127.0.0.1.
        return list({(it[:3], it[4]): it for it in reversed(found)}.values())[::-1]
    return found

async def ours_of(call):
    try:
        return await call()
    except Exception as error:
        return told(error)

def encoded(text):
    return None if text is None else text.encode()

questions = []
for host, service, *numbers in rows("addrinfo.tsv"):
    numbers = [int(number, 0) for number in numbers]
    questions.append((host, service, *numbers))
    questions.append((encoded(host), encoded(service), *numbers))
for host in ("b\\xfccher.test", "B\\xdcCHER.test.", "\\u2603.test", "x" * 64 + ".test"):
    questions.append((host, 80, 0, socket.SOCK_STREAM, 0, 0))
addresses = []
for address, flags in rows("nameinfo.tsv"):
    ip, _, port = address.rpartition(":")
    ip, _, scope = ip.strip("[]").partition("%")
    where = (ip, int(port), 0, int(scope or 0)) if ":" in ip else (ip, int(port))
    addresses.append((where, int(flags, 0)))

theirs = [theirs_of(lambda q=q: socket.getaddrinfo(*q)) for q in questions]
theirs += [theirs_of(lambda a=a: socket.getnameinfo(*a)) for a in addresses]

async def ask():
    loop = asyncio.get_running_loop()
    ours = []
    for host, port, family, type, proto, flags in questions:
        hints = dict(family=family, type=type, proto=proto, flags=flags)
        ours.append(await ours_of(lambda: loop.getaddrinfo(host, port, **hints)))
    for address in addresses:
        ours.append(await ours_of(lambda: loop.getnameinfo(*address)))
    return ours

different = []
for driver in ("epoll", "poll"):
    with asyncio.Runner(loop_factory=lambda: tepal.new_event_loop(driver=driver)) as runner:
        ours = runner.run(ask())
    for question, mine, other in zip(questions + addresses, ours, theirs, strict=True):
        if mine != other:
            different.append(f"{driver} {question}\\n  ours   {mine}\\n  theirs {other}")
answered = sum(isinstance(it, list) for it in theirs)
assert answered >= 100, answered
assert len(os.listdir("/proc/self/task")) == 1, "a thread was made"
print(len(questions), "and", len(addresses), "questions,", answered, "with addresses")
sys.exit("\\n".join([f"{len(different)} differ", *different]) if different else 0)
"""


def absent() -> str | None:
    for program in PROGRAMS:
        if shutil.which(program, path=PATH) is None:
            return program
    made = subprocess.run(["unshare", namespaces(), "true"], capture_output=True, check=False)
    return "the right to make namespaces" if made.returncode else None


def namespaces() -> str:
    return "-nm" if os.geteuid() == 0 else "-rnm"


# S14, S17
def test_servers_and_files_are_asked_with_the_same_result_as_by_glibc() -> None:
    if missing := absent():
        if told := os.environ.get("TEPAL_ABSENT_FILE"):
            with open(told, "a") as file:
                print(f"{missing}: tests/python/test_addrinfo_by_name.py", file=file)
        pytest.skip(f"absent: {missing}")
    begin = ["unshare", namespaces(), "--pid", "--fork", "--kill-child"]
    result = subprocess.run(
        [*begin, "sh", "-c", SCRIPT, "sh", DATA, sys.executable],
        env={**os.environ, "PATH": PATH, "ZONE": ZONE, "NSD": NSD, "CODE": CODE},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
