#!/bin/sh
# What a container runs. Each ends by SIGTERM: what is under way is finished first.
#
#   web         the site, under granian (GRANIAN_WORKERS, GRANIAN_BLOCKING_THREADS,
#               GRANIAN_BACKPRESSURE: connections of each worker, 4096 where it is not set)
#   worker      Celery's default queue (CELERY_CONCURRENCY, 2 where it is not set)
#   monitoring  the watch: one process, since what it does takes turns
#   benchmarks  measures and loads, alone on its machine
#   beat        starts what is periodic; one of it
#   migrate     brings the database up to date, and ends
#   ...         any other command of manage.py
set -eu
role="${1:-web}"
[ "$#" -eq 0 ] || shift

worker() {
    # Celery 5 on a broker that is away at start waits for it, and so does a later break.
    exec celery --app iota worker --without-gossip --without-mingle "$@"
}

case "$role" in
web)
    export GRANIAN_BACKPRESSURE="${GRANIAN_BACKPRESSURE:-4096}"
    # Each connection is an open file, and 1,024 of these are what many a machine allows at first.
    files="$(ulimit -Sn)"
    wanted="$((GRANIAN_BACKPRESSURE + 1024))"
    if [ "$files" != unlimited ] && [ "$files" -lt "$wanted" ] && ! ulimit -Sn "$wanted" 2>/dev/null; then
        ulimit -Sn "$(ulimit -Hn)"
        echo "web: $(ulimit -n) open files are allowed, GRANIAN_BACKPRESSURE needs $wanted" >&2
    fi
    # Those who are asked to end get as long as compose gives us, less a moment.
    exec granian --interface wsgi --no-ws --workers-kill-timeout "${WEB_STOP_SECONDS:-25}" "$@" \
        iota.wsgi:application
    ;;
worker) worker --hostname worker@%h --concurrency "${CELERY_CONCURRENCY:-2}" "$@" ;;
monitoring) worker --hostname monitoring@%h --queues monitoring --concurrency 1 "$@" ;;
benchmarks) worker --hostname benchmarks@%h --queues benchmarks,loadtests --pool solo "$@" ;;
beat) exec celery --app iota beat --pidfile "" "$@" ;;
migrate) exec python manage.py migrate --noinput "$@" ;;
*) exec python manage.py "$role" "$@" ;;
esac
