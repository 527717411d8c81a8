#!/bin/sh
# Install, run, upgrade and purge the package in a bare Debian 12: `make debtest`, as root.
#
#   packaging/try-deb.sh PACKAGE WORK_DIRECTORY
#
# The first run makes the base system with debootstrap (five minutes) and keeps it in WORK_DIRECTORY.
# Each run works in an overlay of it, in a network namespace without any network: what the package
# needs at installation is in the package.
set -eu

package=$(realpath "$1")
mkdir -p "$2"
work=$(realpath "$2")
base=$work/base

if [ ! -e "$base/.complete" ]; then
    rm -rf "$base"
    debootstrap --variant=minbase --include=python3,systemd,iproute2 bookworm "$base" >&2
    touch "$base/.complete"
fi

exec unshare --mount --net --pid --fork --kill-child sh -eu -c '
package=$1 work=$2
step() { echo "--- $*"; }
mkdir -p "$work/overlay"
mount -t tmpfs none "$work/overlay"
mkdir "$work/overlay/upper" "$work/overlay/inner" "$work/overlay/root"
root=$work/overlay/root
mount -t overlay -o "lowerdir=$work/base,upperdir=$work/overlay/upper,workdir=$work/overlay/inner" none "$root"
mount -t proc none "$root/proc"
mount -t tmpfs none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount --rbind /dev "$root/dev"
cp "$package" "$root/tmp/routed.deb"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
files() { inside find / -xdev -path /proc -prune -o -path /dev -prune -o -path /run -prune -o -path /tmp -prune \
    -o -path /var/lib/dpkg -prune -o -path /var/log -prune -o -path /var/cache -prune -o -print | sort; }
people() { inside cat /etc/passwd /etc/group; }

step "no network: only loopback, and it is down"
inside ip -br link
files > "$work/before"
people > "$work/people.before"

step install
inside dpkg --install /tmp/routed.deb
inside dpkg --verify routed
inside getent passwd routed
inside routed --version

step "the shipped configuration is valid, starts, and changes no route"
inside ip link set lo up
inside ip link add eth1 type veth peer name far
inside ip link set eth1 addrgenmode none # its addresses would come later, while routes are compared
inside ip link set far addrgenmode none
inside ip addr add 192.0.2.2/24 dev eth1
inside ip link set eth1 up
inside ip link set far up
inside ip route add default via 192.0.2.1
inside ip route show table all > "$work/routes.before"
inside routed --check
inside routed
inside routectl wait synced
inside routectl health
inside ip route show table all | diff "$work/routes.before" -

step "a route of the configuration is in the kernel"
inside sed -i "s/^#static:/static:/; s/^#  - {prefix: 203/  - {prefix: 203/" /etc/routed/routes.yaml
inside routectl reload
inside routectl wait route 203.0.113.0/24
inside ip route show proto routed

step "upgrade: the configuration stays, and so do the routes"
inside dpkg --install /tmp/routed.deb
inside grep -q "^static:" /etc/routed/routes.yaml
[ "$(inside ip route show proto routed | wc -l)" = 1 ]

step "remove: the routes of the daemon go"
inside dpkg --remove routed
[ "$(inside ip route show proto 205 | wc -l)" = 0 ]
inside ip route show default | grep -q 192.0.2.1
kill "$(cat "$root/run/routed/routed.pid")"
while [ -e "$root/run/routed/routed.sock" ]; do sleep 0.1; done

step "purge: nothing is left"
inside dpkg --purge routed
files | diff "$work/before" -
people | diff "$work/people.before" -
echo "the package was installed, run, upgraded and purged"
' try-deb "$package" "$work"
