"""Memory, disk, open files and ports of this machine."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
from pathlib import Path

import psutil

from seshu_swarm.doctor.findings import Finding, failed, passed, size, warned

# A host at rest with its daemon: 366 MB (`bench sessions`).
LEAST_MEMORY_BYTES, GOOD_MEMORY_BYTES = 500_000_000, 1_500_000_000
LEAST_DISK_BYTES, GOOD_DISK_BYTES = 200_000_000, 2_000_000_000
LEAST_FILES, GOOD_FILES = 256, 1_024
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LEAST_PORTS = 1_000


def check(state_path: Path, host: str, port: int) -> list[Finding]:
    free_disk_bytes, obstacle = _disk(state_path)
    return [
        judge_memory(psutil.virtual_memory().available),
        judge_disk(state_path, free_disk_bytes, obstacle),
        judge_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        judge_port(host, port, bind_error(host, port)),
        judge_range(_port_range()),
    ]


def judge_memory(free_bytes: int) -> Finding:
    text = f"{size(free_bytes)} free"
    if free_bytes < LEAST_MEMORY_BYTES:
        way_out = f"free some: a peer at rest needs {size(LEAST_MEMORY_BYTES)}"
        return failed("memory", text, way_out)
    if free_bytes < GOOD_MEMORY_BYTES:
        return warned("memory", text, "host few blocks, with --max-memory, or free some")
    return passed("memory", text)


def _disk(state_path: Path) -> tuple[int, str]:
    """Free bytes where the folder is or would be, and why it cannot be written to."""
    folder = state_path.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return 0, f"{folder.name} is a file"
    if not os.access(folder, os.W_OK | os.X_OK):
        return 0, "this user may not write there"
    return shutil.disk_usage(folder).free, ""


def judge_disk(folder: Path, free_bytes: int, obstacle: str) -> Finding:
    if obstacle:
        return failed("disk", f"{folder}: {obstacle}", "give another --state-dir")
    text = f"{size(free_bytes)} free for {folder}"
    if free_bytes < LEAST_DISK_BYTES:
        return failed(
            "disk", text, f"make room, or give a --state-dir with {size(GOOD_DISK_BYTES)}"
        )
    if free_bytes < GOOD_DISK_BYTES:
        return warned("disk", text, f"checkpoints and packages may want {size(GOOD_DISK_BYTES)}")
    return passed("disk", text)


def judge_files(limit: int, highest: int) -> Finding:
    text = f"{limit:,} at once" if limit != resource.RLIM_INFINITY else "no limit"
    if limit == resource.RLIM_INFINITY or limit >= GOOD_FILES:
        return passed("open files", text)
    way_out = f"ulimit -n {GOOD_FILES}, before the peer is started"
    if highest != resource.RLIM_INFINITY and highest < GOOD_FILES:
        way_out = f"ask the administrator for a hard limit of {GOOD_FILES} (limits.conf)"
    judge = failed if limit < LEAST_FILES else warned
    return judge("open files", f"{text}; each connection is one", way_out)


def bind_error(host: str, port: int) -> int:
    """0 where a program could listen there, else the error's number."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def judge_port(host: str, port: int, error: int) -> Finding:
    place = f"{host}:{port}" if port else f"a port of {host}"
    match error:
        case 0:
            return passed("port", f"{place} is free")
        case errno.EADDRINUSE:
            return failed("port", f"{place} is taken", "choose another --port, or 0 for a free one")
        case errno.EACCES:
            way_out = "choose a --port from 1024 on"
            return failed("port", f"{place} may not be opened by this user", way_out)
        case _:
            way_out = "give --host an address of this machine, or 0.0.0.0 for all"
            return failed("port", f"{place}: {os.strerror(error)}", way_out)


def _port_range() -> tuple[int, int] | None:
    try:
        first, last = map(int, PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return None
    return first, last


def judge_range(ports: tuple[int, int] | None) -> Finding:
    if ports is None:
        return warned("port range", "the system does not say which it gives", "nothing to do")
    text = f"the system gives ports {ports[0]} to {ports[1]}"
    if ports[1] - ports[0] + 1 < LEAST_PORTS:
        return warned("port range", f"{text}: few", "sysctl net.ipv4.ip_local_port_range")
    return passed("port range", text)
