"""The systemd units, as text. `deploy/systemd/` holds those of an installation in /opt/deepseek-proxy.

systemd 252 or later: systemd.unit(5), systemd.service(5), systemd.socket(5), systemd.exec(5). Refuses to know
where units are put.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

SERVICE_NAME: Final = "deepseek-proxy.service"
SOCKET_NAME: Final = "deepseek-proxy.socket"
CONFIG_NAME: Final = "config.toml"


def service(command: str) -> str:
    """The system service. `command` is how the program is started, with absolute path."""
    return _SERVICE.format(command=command)


def user_service(command: str) -> str:
    """The service of one user, who is what it may do: most of the sandbox needs the system's manager."""
    return _USER_SERVICE.format(command=command)


def socket() -> str:
    return _SOCKET


def config() -> str:
    """A configuration file to start from; it sets nothing."""
    return _CONFIG


def user_config() -> str:
    return _USER_CONFIG


def write_all(folder: Path) -> None:
    """Writes what `deploy/systemd/` holds."""
    (folder / "user").mkdir(parents=True, exist_ok=True)
    (folder / SOCKET_NAME).write_text(socket())
    (folder / SERVICE_NAME).write_text(service("/opt/deepseek-proxy/bin/deepseek-proxy"))
    (folder / CONFIG_NAME).write_text(config())
    (folder / "user" / SERVICE_NAME).write_text(user_service("%h/.local/bin/deepseek-proxy"))


_SOCKET: Final = """\
# The address of deepseek-proxy. systemd holds it, so that a restart of the service refuses no connection.
# Another address: `systemctl edit deepseek-proxy.socket`, with an empty ListenStream= before the new one.

[Unit]
Description=Address of deepseek-proxy

[Socket]
ListenStream=127.0.0.1:8787
Backlog=2048
NoDelay=yes

[Install]
WantedBy=sockets.target
"""

_SERVICE: Final = """\
# deepseek-proxy, a gateway that lets OpenAI clients work on DeepSeek. docs/deploy/systemd.md explains it.
# Changes: `systemctl edit deepseek-proxy` for this unit, /etc/deepseek-proxy/config.toml for the settings.

[Unit]
Description=deepseek-proxy
Requires=deepseek-proxy.socket
After=deepseek-proxy.socket network.target

[Service]
Type=notify
ExecStart={command} serve
# New code and settings; no stream is cut and no connection refused. A mistake changes nothing.
ExecReload=/bin/kill -HUP $MAINPID
Environment=DEEPSEEK_PROXY_CONFIG=/etc/deepseek-proxy/config.toml
# The gateway's own key, where it has one: /etc/credstore/deepseek-proxy.key, for root alone to read.
LoadCredential=deepseek_api_key:deepseek-proxy.key

# SIGTERM goes to the main process, which tells its workers. It needs drain_seconds (30) and 10 more.
KillMode=mixed
TimeoutStopSec=60
Restart=always
RestartSec=1
# 2 says that the settings cannot be used: starting again would not help.
RestartPreventExitStatus=2

DynamicUser=yes
ConfigurationDirectory=deepseek-proxy
StateDirectory=deepseek-proxy
StateDirectoryMode=0700
LogsDirectory=deepseek-proxy
LogsDirectoryMode=0750
# Temporary files are in memory, and gone with the service.
RuntimeDirectory=deepseek-proxy
RuntimeDirectoryMode=0700
Environment=TMPDIR=%t/deepseek-proxy
UMask=0077

# It reads its code, writes into the folders above, and speaks TCP. Nothing else.
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
PrivateMounts=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
Also=deepseek-proxy.socket
"""

_USER_SERVICE: Final = """\
# deepseek-proxy for one user. docs/deploy/systemd.md explains it.
# Changes: `systemctl --user edit deepseek-proxy` for this unit, ~/.config/deepseek-proxy/config.toml for the
# settings.

[Unit]
Description=deepseek-proxy
Requires=deepseek-proxy.socket
After=deepseek-proxy.socket

[Service]
Type=notify
ExecStart={command} serve
ExecReload=/bin/kill -HUP $MAINPID
Environment=DEEPSEEK_PROXY_CONFIG=%E/deepseek-proxy/config.toml
KillMode=mixed
TimeoutStopSec=60
Restart=always
RestartSec=1
RestartPreventExitStatus=2
UMask=0077
NoNewPrivileges=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
Also=deepseek-proxy.socket
"""

_CONFIG: Final = """\
# Settings of deepseek-proxy; `deepseek-proxy config --reference` lists them all. None has to be set.
# A change is taken within seconds; a mistake changes nothing, and the journal says what it is.
# The address is not here but in deepseek-proxy.socket. Keys are not here: everybody may read this file.

# workers = 4
# drain_seconds = 30      # TimeoutStopSec= of the service has to be 10 more at least
# log_dir = "/var/log/deepseek-proxy"
# keys_file = "/var/lib/deepseek-proxy/keys.json"      # of clients: sudo deepseek-proxy keys new NAME
"""

_USER_CONFIG: Final = """\
# Settings of deepseek-proxy; `deepseek-proxy config --reference` lists them all. None has to be set.
# A change is taken within seconds; a mistake changes nothing, and the journal says what it is.
# The address is not here but in deepseek-proxy.socket.

# deepseek_api_key_file = "~/.config/deepseek-proxy/key"
# drain_seconds = 30      # TimeoutStopSec= of the service has to be 10 more at least
"""
