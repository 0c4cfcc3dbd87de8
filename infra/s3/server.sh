#!/usr/bin/env bash
# A real S3 server on this machine, for tests: Ceph's RADOS Gateway over one monitor and one disk that is a sparse file.
#
#   infra/s3/server.sh start FOLDER [PORT [MONITOR_PORT]]   S3 on 127.0.0.1:PORT (9480); its monitor on 9481
#   infra/s3/server.sh stop FOLDER
#
# `source FOLDER/env.sh` gives what S3 clients read: the endpoint and the keys of its one user. What was stored survives a
# stop; removing FOLDER removes all of it. It installs nothing, listens on loopback alone, needs no root, and keeps no copy:
# no place for data that matter. Its own daemons trust every user of this machine.
set -euo pipefail

readonly packages="ceph-mon ceph-osd ceph-common radosgw" # Debian's
readonly daemons=(gateway disk monitor)                   # in the order in which they stop
export PYTHONWARNINGS=ignore                              # the `ceph` command is Python

fail() {
    printf 'langevin: %s\n' "$*" >&2
    exit "${code:-1}"
}

usage() { code=2 fail "infra/s3/server.sh start FOLDER [PORT [MONITOR_PORT]], or stop FOLDER"; }

# Prints the pid of a daemon that runs on this folder; a pid that another process has got since is none.
pid_of() {
    local pid
    pid=$(cat "$folder/run/$1.pid" 2>/dev/null) && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "-c $config " &&
        echo "$pid"
}

launch() { # NAME COMMAND ...
    local name=$1 program=$2
    shift 2
    pid_of "$name" >/dev/null && return
    setsid "$program" -f -c "$config" "$@" >>"$folder/log/$name.log" 2>&1 </dev/null 9>&- &
    echo $! >"$folder/run/$name.pid"
}

once() { # NAME COMMAND ...: a step of the first start, done anew where a kill cut it short
    local name=$1
    shift
    [[ -e $folder/done/$name ]] && return
    "$@" >>"$folder/log/first-start.log" 2>&1 || fail "the first start failed at: $name; see $folder/log"
    touch "$folder/done/$name"
}

write_config() {
    [[ -s $folder/fsid ]] || cat /proc/sys/kernel/random/uuid >"$folder/fsid"
    cat >"$config" <<END
[global]
fsid = $(<"$folder/fsid")
mon host = $monitor
public addr = 127.0.0.1
cluster addr = 127.0.0.1
# nobody but this machine can reach it
auth cluster required = none
auth service required = none
auth client required = none
# a socket's path may be too long in a deep folder
admin socket =
run dir = $folder/run
log file = $folder/log/\$type.log
# one disk, one copy
osd pool default size = 1
mon allow pool size one = true
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[mon]
mon data = $folder/monitor
# by default a monitor gives up on a file system that is nearly full, however large it is
mon data avail crit = 1
mon data avail warn = 2
[osd]
osd data = $folder/disk
osd objectstore = bluestore
bluestore block size = $((8 << 30))
osd memory target = $((896 << 20))
[client.gateway]
rgw data = $folder/gateway
rgw frontends = beast endpoint=127.0.0.1:$port
rgw thread pool size = 32
# without keys there is nothing to encrypt with, and the gateway would ask for that
ms mon client mode = crc
END
}

make_monitor() {
    rm -rf "$folder/monitor" && mkdir "$folder/monitor"
    monmaptool --create --clobber --fsid "$(<"$folder/fsid")" --addv a "$monitor" "$folder/monmap"
    ceph-mon -c "$config" -i a --mkfs --monmap "$folder/monmap"
}

make_disk() {
    rm -rf "$folder/disk" && mkdir "$folder/disk"
    [[ -s $folder/disk.id ]] || cat /proc/sys/kernel/random/uuid >"$folder/disk.id"
    ceph -c "$config" --connect-timeout 60 osd new "$(<"$folder/disk.id")"
    ceph-osd -c "$config" -i 0 --mkfs --osd-uuid "$(<"$folder/disk.id")"
}

make_user() {
    [[ -s $folder/secret ]] || (umask 077 && head -c 24 /dev/urandom | base64 | tr '+/' 'xy' >"$folder/secret")
    radosgw-admin -c "$config" -n client.gateway user info --uid langevin ||
        radosgw-admin -c "$config" -n client.gateway user create --uid langevin --display-name langevin \
            --access-key langevin --secret-key "$(<"$folder/secret")"
}

write_env() (
    umask 077
    cat >"$folder/env.sh" <<END
export AWS_ENDPOINT_URL=http://127.0.0.1:$port
export AWS_ACCESS_KEY_ID=langevin
export AWS_SECRET_ACCESS_KEY=$(<"$folder/secret")
export AWS_DEFAULT_REGION=us-east-1
END
)

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

start() {
    for program in ceph ceph-mon ceph-osd monmaptool radosgw radosgw-admin; do
        command -v "$program" >/dev/null ||
            code=2 fail "there is no $program here: apt-get install --no-install-recommends $packages"
    done
    local name since=$SECONDS
    mkdir -p "$folder"/{run,log,done,gateway}
    exec 9>"$folder/run/lock"
    flock 9
    pid_of gateway >/dev/null || ! answers || code=2 fail "something else listens on port $port: name another one"
    write_config
    once monitor make_monitor
    launch monitor ceph-mon -i a
    once disk make_disk
    launch disk ceph-osd -i 0
    launch gateway radosgw -n client.gateway
    until answers; do
        for name in "${daemons[@]}"; do
            pid_of "$name" >/dev/null || fail "the $name ended; see $folder/log"
        done
        ((SECONDS - since < 90)) || fail "S3 does not answer after $((SECONDS - since)) s; see $folder/log"
        sleep 0.2
    done
    once user make_user
    write_env
    echo "S3: http://127.0.0.1:$port (source $folder/env.sh)"
}

stop() {
    local name pid tries
    for name in "${daemons[@]}"; do
        pid=$(pid_of "$name") || continue
        kill "$pid"
        for ((tries = 0; tries < 50; tries++)); do
            pid_of "$name" >/dev/null || break
            sleep 0.1
        done
        if pid_of "$name" >/dev/null; then kill -KILL "$pid"; fi # it journals: a kill loses nothing
        rm -f "$folder/run/$name.pid"
    done
}

(($# >= 2)) || usage
folder=$(realpath -m "$2")
config=$folder/ceph.conf
port=${3:-9480}
monitor="[v2:127.0.0.1:${4:-$((port + 1))}]"
case $1 in
start) start ;;
stop) stop ;;
*) usage ;;
esac
