#!/usr/bin/env bash
# deps.sh demo|test|accept: installs what a fresh Debian 12 lacks, and nothing twice.
# Without root or apt it changes nothing and says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?usage: scripts/deps.sh demo|test|accept}

say() { printf 'deps: %s\n' "$*" >&2; }
die() { printf 'deps: error: %s\n' "$*" >&2; exit 1; }

command -v go >/dev/null || die "Go is missing; install Go 1.26 or newer (https://go.dev/dl) and put it on PATH"
gov=$(go env GOVERSION); gov=${gov#go}
[ "$(printf '%s\n' 1.26 "$gov" | sort -V | head -1)" = 1.26 ] || die "Go $gov is too old; Wardnet needs 1.26 or newer"

want=()
command -v gcc >/dev/null || [ "$what" = demo ] || want+=(gcc libc6-dev)   # the race detector needs cgo
command -v npm >/dev/null || want+=(nodejs npm)                             # builds the console
if [ "$what" != demo ]; then
  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || want+=(postgresql) # the second store engine
  command -v chromium >/dev/null || want+=(chromium)                        # the browser journey
  [ -n "$(fc-list 2>/dev/null | grep -i dejavu)" ] || want+=(fonts-dejavu-core fontconfig)
  # The lab's edges and their neighbours: real daemons in network namespaces.
  [ -x /usr/lib/frr/bgpd ] || want+=(frr)
  [ -x /usr/lib/frr/frr-reload.py ] || want+=(frr-pythontools)
  for pair in ip:iproute2 nft:nftables wg:wireguard-tools swanctl:strongswan-swanctl charon-systemd:charon-systemd \
    dnsmasq:dnsmasq-base chronyd:chrony tcpdump:tcpdump iperf3:iperf3 ethtool:ethtool openssl:openssl; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || want+=("${pair##*:}")
  done
  [ -e /usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so ] || want+=(libcharon-extra-plugins)
  [ -e /usr/lib/ipsec/plugins/libstrongswan-openssl.so ] || want+=(libstrongswan-standard-plugins)
fi
if [ "$what" = accept ]; then # servers for the drivers, and what the CLI driver is compared with
  for pair in sshd:openssh-server netconfd:netconfd ansible-playbook:ansible-core certbot:certbot lego:lego softhsm2-util:softhsm2 swtpm:swtpm; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || want+=("${pair##*:}")
  done
fi
if [ ${#want[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    die "these are missing and there is no apt-get here: ${want[*]}; install their equivalents and run this again"
  fi
  if [ "$(id -u)" != 0 ]; then
    die "these Debian packages are missing: run 'sudo apt-get install -y ${want[*]}' and then this again"
  fi
  say "installing Debian packages: ${want[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # PostgreSQL's own cluster is never used: tests start a private one.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  # Nothing that is installed here starts by itself: tests start their own.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null || die "apt-get could not install ${want[*]}; run it by hand to see why"
fi
./scripts/node.sh >/dev/null
