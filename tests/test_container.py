"""The image and the compose file, as far as they can be checked where no engine is.

Schemas and rules are the field's own: hadolint, and the compose specification as check-jsonschema
ships it. Every command in the files is read by the command line that it is for.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seshu_swarm.program import cli, config

ROOT = Path(__file__).parents[1]
DOCKERFILE, COMPOSE = ROOT / "deploy/Dockerfile", ROOT / "deploy/compose.yaml"
LINK = f"seshu://compose?key={'0' * 64}&peer=/dns4/coordinator/tcp/31337/p2p/Qm1"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A checker that lies beside this interpreter."""
    program = Path(sys.executable).with_name(name)
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def instructions() -> list[tuple[str, str]]:
    """(instruction, its text) of the Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(name, text) for name, _, text in pairs]


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile's instructions, from each FROM on."""
    found: list[list[tuple[str, str]]] = []
    for name, text in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, text))
    return found


def last(name: str) -> str:
    return [text for kind, text in stages()[-1] if kind == name][-1]


def test_hadolint_finds_nothing() -> None:
    told = tool("hadolint", "--failure-threshold", "style", str(DOCKERFILE))
    assert told.returncode == 0 and not told.stdout, told.stdout + told.stderr


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("USER 10001\n", "USER root\nRUN cd /x\n"))
    assert "DL3002" in tool("hadolint", str(worse)).stdout


def test_the_image_has_two_stages_and_runs_as_nobody_in_particular() -> None:
    build, run = stages()
    assert any(kind == "RUN" and "gcc" in text for kind, text in build)
    assert int(last("USER")) >= 1_000
    # What comes after USER runs as that user; only then it can own what it starts.
    kinds = [kind for kind, _ in run]
    assert kinds.index("USER") < kinds.index("ENTRYPOINT") and "tini" in json.loads(
        last("ENTRYPOINT")
    )
    assert json.loads(last("VOLUME")) == ["/state", "/cache"]


def test_both_builds_of_torch_can_be_asked_for() -> None:
    arguments = [text for kind, text in instructions() if kind == "ARG"]
    assert {"TORCH=cuda", "TORCH_INDEX="} <= set(arguments)
    assert "cpu" in DOCKERFILE.read_text()


def test_what_is_copied_exists_and_nothing_else_reaches_the_builder() -> None:
    copied = [text.split()[:-1] for kind, text in stages()[0] if kind == "COPY"]
    sources = {name for names in copied for name in names}
    assert all((ROOT / name).exists() for name in sources)
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything stays out that is not named"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert any(fnmatch.fnmatch("a/identity.key", rule) for rule in rules[1:])


def test_the_source_that_is_copied_holds_no_key() -> None:
    names = [path.name for path in (ROOT / "seshu_swarm").rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".key", ".pem", ".env"))]
    named = [text for kind, text in instructions() if kind in ("ENV", "ARG")]
    assert not re.search(r"TOKEN|SECRET|PASSWORD|_KEY", " ".join(named))


def test_without_a_command_the_image_says_how_a_peer_is_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert json.loads(last("ENTRYPOINT")) == ["tini", "--", "python", "-m"]
    module, *arguments = json.loads(last("CMD"))
    with pytest.raises(SystemExit) as ended:
        cli.parser_of(module, commands_of(module)).parse_args(arguments)
    assert ended.value.code == 0 and "finetune" in capsys.readouterr().out


def health(command: list[str], old: str, new: str) -> int:
    """Exit code of a check, with a path or a port of this test's in place of its own."""
    assert command[:2] == ["python", "-c"] and old in command[2]
    code = command[2].replace(old, new)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=30, check=False
    )
    return done.returncode


def test_a_peer_is_healthy_while_the_process_of_its_status_lives(tmp_path: Path) -> None:
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    status = tmp_path / "status.json"
    assert health(command, "/state/status.json", str(status)) != 0
    status.write_text(json.dumps({"pid": os.getpid()}))
    assert health(command, "/state/status.json", str(status)) == 0
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    status.write_text(json.dumps({"pid": ended.pid}))
    assert health(command, "/state/status.json", str(status)) != 0


def resolved(value: Any) -> Any:
    """As compose fills variables in, where only the link is set."""
    if isinstance(value, dict):
        return {key: resolved(one) for key, one in value.items()}
    if isinstance(value, list):
        return [resolved(one) for one in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda m: LINK if m[1] == "SESHU_LINK" else m[2] or "", value)
    return value


def compose() -> dict[str, Any]:
    found: dict[str, Any] = resolved(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))
    return found


SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
ONCE = ("open", "pretrain")


def settings_of(name: str) -> Any:
    """The settings that a service's command resolves to."""
    module, *arguments = SERVICES[name]["command"]
    flags = vars(cli.parser_of(module, commands_of(module)).parse_args(arguments))
    command = next(one for one in commands_of(module) if one.name == flags["command"])
    return config.load(command.settings, flags, None)


def commands_of(module: str) -> tuple[cli.Command, ...]:
    commands: tuple[cli.Command, ...] = importlib.import_module(f"{module}.__main__").COMMANDS
    return commands


def test_the_compose_file_keeps_to_the_specification(tmp_path: Path) -> None:
    told = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE))
    assert told.returncode == 0, told.stdout + told.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("restart: on-failure", "restrat: on-failure"))
    told = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong))
    assert told.returncode == 1 and "restrat" in told.stdout


def test_the_compose_file_has_a_whole_swarm() -> None:
    wanted = {"coordinator", "bootstrap", "peer-1", "peer-2", "peer-3", "gateway", "prometheus"}
    assert set(SERVICES) == wanted | set(ONCE)
    assert all(SERVICES[name].get("profiles") == ["setup"] for name in ONCE)


@pytest.mark.parametrize("name", OURS)
def test_a_service_s_command_is_one_of_ours(name: str) -> None:
    settings = settings_of(name)
    assert settings.state_dir == "/state"
    if name not in (*ONCE, "coordinator"):
        assert settings.join == LINK


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_given_little_and_keeps_its_state(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service
    assert "environment" not in service, "a secret would lie there for everyone to read"
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert sorted(mounted.values()) == ["/cache", "/state"]
    assert set(mounted) <= set(compose()["volumes"])


def test_no_two_that_run_at_once_share_a_state_folder() -> None:
    long = [SERVICES[name]["volumes"][0] for name in OURS if name not in ONCE]
    assert len(long) == len(set(long))


def test_ports_are_those_that_the_commands_listen_on() -> None:
    for name, port in (("coordinator", 31337), ("bootstrap", 31338)):
        settings = settings_of(name)
        assert SERVICES[name]["ports"][0] == f"{port}:{port}"
        assert settings.port == port and settings.announce == f"/dns4/{name}/tcp/{port}"
    # Pages and numbers stay on this machine unless its owner decides otherwise.
    pages = [
        *SERVICES["coordinator"]["ports"][1:],
        *SERVICES["gateway"]["ports"],
        *SERVICES["prometheus"]["ports"],
    ]
    assert pages == [f"127.0.0.1:{port}:{port}" for port in (8080, 8000, 9090)]
    assert settings_of("coordinator").web == "0.0.0.0:8080"
    assert settings_of("gateway").keys == "/run/secrets/gateway_keys"


def test_whoever_is_waited_for_can_be_found_healthy() -> None:
    for name, service in SERVICES.items():
        waits = service.get("depends_on", {})
        for other in waits:
            assert other in SERVICES and other not in ONCE, f"{name} waits for {other}"


def test_secrets_come_from_files_that_git_ignores() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/secrets/"} <= set(ignored)
    secrets = compose()["secrets"]
    assert {one["file"].rpartition("/")[0] for one in secrets.values()} == {"./secrets"}
    used = {one for service in SERVICES.values() for one in service.get("secrets", [])}
    assert used == set(secrets)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_coordinator_is_healthy_while_its_port_answers(listening: int, free_port: int) -> None:
    _, *command = SERVICES["coordinator"]["healthcheck"]["test"]
    assert health(command, "31337", str(listening)) == 0
    assert health(command, "31337", str(free_port)) != 0


def test_prometheus_asks_the_gateway_where_it_answers() -> None:
    mounted = SERVICES["prometheus"]["volumes"][0].partition(":")
    watched = yaml.safe_load((ROOT / "deploy" / mounted[0]).read_text(encoding="utf-8"))
    (job,) = watched["scrape_configs"]
    (targets,) = job["static_configs"]
    assert targets["targets"] == [f"gateway:{settings_of('gateway').http_port}"]
    from seshu_swarm.client.gateway.app import ROUTES

    assert job["metrics_path"] in ROUTES
    assert job["authorization"]["credentials_file"] == "/run/secrets/prometheus_key"
    assert f"--config.file={mounted[2].split(':')[0]}" in SERVICES["prometheus"]["command"]


def test_compose_itself_reads_the_file_where_it_is() -> None:
    docker = shutil.which("docker")
    plugin = docker and subprocess.run(
        [docker, "compose", "version"], capture_output=True, timeout=30, check=False
    )
    if not plugin or plugin.returncode != 0:
        pytest.skip("docker compose is not on this machine")
    told = subprocess.run(
        [str(docker), "compose", "-f", str(COMPOSE), "config", "--quiet"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
