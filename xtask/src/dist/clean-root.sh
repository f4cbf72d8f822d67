# The life of the package in a clean system: the folder is the first argument, the capabilities of the service the second. Runs in mount,
# network and process namespaces of its own, which end with it and take everything along.
set -eu
root=$1
capabilities=$2
vip=198.51.100.10

say() { echo "clean system: $*"; }
fail() { say "FAILED: $*"; cat "$root/tmp/daemon.log" 2>/dev/null || true; exit 1; }
in_root() { chroot "$root" "$@"; }

# Nothing here may ever reach the network of the machine: the first process is this script, in the very namespace that it acts in.
[ $$ -eq 1 ] || fail "not in a process namespace of its own"
[ "$(readlink /proc/1/ns/net)" = "$(readlink /proc/self/ns/net)" ] || fail "/proc shows the processes of somebody else"
[ "$(ip -oneline link | wc -l)" -eq 1 ] || fail "not in a network namespace of its own"

mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t tmpfs run "$root/run"
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

# A client on the other end of a cable.
unshare --net sleep infinity &
client=$!
in_client() { nsenter --target "$client" --net "$@"; }
until [ "$(readlink "/proc/$client/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set lo up
ip link add eth0 type veth peer name eth0 netns "$client"
ip address add 198.51.100.1/24 dev eth0
ip link set eth0 up
in_client ip address add 198.51.100.7/24 dev eth0
in_client ip link set eth0 up
answers() { in_client ping -q -c 5 -i 0.2 -W 1 $vip >/dev/null; }

say installing
in_root dpkg --install /vip-lb.deb
in_root vip-lb --version
in_root vip-lb check /etc/vip-lb/vip-lb.yaml
in_root dpkg --verify vip-lb
# Of all kinds of checks the one that takes a capability, and asks whether anybody is there or not.
sed -i 's/health: {kind: tcp}/health: {kind: icmp, via: direct}/' "$root/etc/vip-lb/vip-lb.yaml"
[ ! -e "$root/etc/systemd/system/multi-user.target.wants/vip-lb.service" ] || fail "the service was enabled"
[ "$(stat -c %a "$root/etc/vip-lb/vip-lb.yaml")" = 640 ] || fail "everybody may read the seed"
answers && fail "somebody answers already"
# A veth sends back what a program answers only if the other end has one as well: one that passes everything.
in_client chroot "$root" vip-lb decap --interface eth0 --from 192.0.2.254 --vip 192.0.2.253 --pins /sys/fs/bpf/client >/dev/null

# The arguments are capabilities; those and no others, as the unit has it.
start() {
    set_of=-all
    for capability; do set_of="$set_of,+$capability"; done
    in_root vip-lb check /etc/vip-lb/vip-lb.yaml >/dev/null
    chroot "$root" setpriv --bounding-set="$set_of" --inh-caps=-all --no-new-privs \
        /usr/sbin/vip-lb run --config /etc/vip-lb/vip-lb.yaml >"$root/tmp/daemon.log" 2>&1 &
    daemon=$!
    for _ in $(seq 600); do
        in_root vip-lb status >/dev/null 2>&1 && return 0
        kill -0 $daemon 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
stop() { kill "-$1" $daemon; wait $daemon || true; }
# One weight another: a new ring takes the place of the published one.
change() { sed -i "s/name: web-1, address: 198.51.100.21.*}/name: web-1, address: 198.51.100.21, weight: $1}/" "$root/etc/vip-lb/vip-lb.yaml"; }

say "running with $capabilities"
# shellcheck disable=SC2086 # they are several
start $capabilities || fail "does not start with $capabilities"
answers || fail "nobody answers for the VIP"
change 200
in_root vip-lb reload || fail "does not reload with $capabilities"
stop KILL
answers || fail "nobody answers without a daemon"
# shellcheck disable=SC2086
start $capabilities || fail "does not start again with $capabilities"
grep -q taken_over=true "$root/tmp/daemon.log" || fail "does not take over"
stop TERM

# Refused, or left undone with a warning.
lack='this process lacks [A-Z_, ]*\|the kernel does not keep a neighbour resolved\|operation not permitted'
lacks() { grep -q "$lack" "$root/tmp/daemon.log" "$root/tmp/reload.log"; }
for left_out in $capabilities; do
    others=$(echo " $capabilities " | sed "s/ $left_out / /")
    # shellcheck disable=SC2086
    if start $others; then
        change 300
        in_root vip-lb reload >"$root/tmp/reload.log" 2>&1 || true
        # The first checks may take a moment.
        for _ in $(seq 100); do lacks && break; sleep 0.1; done
    fi
    stop TERM 2>/dev/null || true
    change 200
    lacks || fail "works without $left_out too"
    say "needs $left_out: $(cat "$root/tmp/daemon.log" "$root/tmp/reload.log" | grep -o "$lack" | head -n 1)"
done

say upgrading
# shellcheck disable=SC2086
start $capabilities || fail "does not start before the upgrade"
in_client ping -q -i 0.01 -c 500 $vip >"$root/tmp/ping" &
ping=$!
in_root dpkg --install --force-confold /vip-lb.deb
wait $ping || fail "pings were lost during the upgrade: $(cat "$root/tmp/ping")"
grep -q ' 0% packet loss' "$root/tmp/ping" || fail "$(cat "$root/tmp/ping")"
in_root vip-lb status >/dev/null || fail "the daemon ended with the upgrade"

say handing over
successor=$(in_root vip-lb upgrade | sed -n 's/^pid \([0-9]*\),.*/\1/p')
[ -n "$successor" ] && [ "$successor" != "$daemon" ] || fail "nobody took over"
wait "$daemon" || fail "the former daemon ended badly"
daemon=$successor
in_root vip-lb status >/dev/null || fail "the successor does not answer"
answers || fail "nobody answers for the VIP after the hand-over"

say removing
stop TERM
# It is not this script's child.
while in_root vip-lb status >/dev/null 2>&1; do sleep 0.1; done
in_root dpkg --remove vip-lb
answers && fail "somebody answers after the removal"
[ ! -e "$root/sys/fs/bpf/vip-lb" ] || fail "pins are left"
[ -e "$root/etc/vip-lb/vip-lb.yaml" ] || fail "the configuration went with the package"
mkdir -p "$root/var/lib/vip-lb"
in_root dpkg --purge vip-lb
for path in etc/vip-lb var/lib/vip-lb usr/sbin/vip-lb usr/share/doc/vip-lb etc/systemd/system/vip-lb.service; do
    [ ! -e "$root/$path" ] || fail "/$path is left"
done
say "all is well"
