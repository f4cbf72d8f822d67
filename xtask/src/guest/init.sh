#!/bin/busybox sh
# The first process of a guest: prepares it, runs the script, says how it ended, powers off.
# The console is ttyS0; what the script says goes to ttyS1, so that the kernel's messages do not mix with it; a file
# that is asked for goes to ttyS2.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/lib64
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mkdir -p /run && mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
for port in 1 2; do stty -F /dev/ttyS$port raw -echo; done

# Under -icount the clock counts instructions only once the kernel has settled on the TSC.
clock=/sys/devices/system/clocksource/clocksource0/current_clocksource
tries=0
while [ -e /guest/icount ] && [ "$(cat $clock)" != tsc ] && [ $tries -lt 20 ]; do
    sleep 1
    tries=$((tries + 1))
done

ip link set lo up
cd /tmp
code=0
while read -r module; do
    insmod "/guest/modules/$module.ko" || code=125
done < /guest/modules.list
if [ $code -eq 0 ]; then
    sh /guest/script.sh > /dev/ttyS1 2>&1 < /dev/null
    code=$?
fi
if [ -r "$(cat /guest/collect)" ]; then
    cat "$(cat /guest/collect)" > /dev/ttyS2
fi
echo
echo "guest-exit-code $code"
poweroff -f
