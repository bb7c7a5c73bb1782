#!/bin/sh
# Makes the secrets of docker-compose.yml in the folder secrets/, each once: what is there stays.
#
#   sh deploy/secrets.sh
#
# The folder is yours alone. The files in it are readable, since a container's user reads them, who
# is another than you: only the files are mounted, each for the services that name it.
set -eu
cd "$(dirname "$0")/.."
folder="${SECRETS:-secrets}"
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }

# write NAME: its standard input becomes the secret of this name, where there is none yet.
write() {
    [ ! -e "$folder/$1" ] || return 0
    (umask 077 && cat >"$folder/$1.new") && chmod 444 "$folder/$1.new" && mv "$folder/$1.new" "$folder/$1"
}

# password NAME: a new one, or what it was made as; for the secrets that are made of it.
password() {
    [ -e "$folder/$1" ] || random | write "$1"
    cat "$folder/$1"
}

random | write secret_key
random | write identity_key
random | write metrics_token
random | write grafana_password

postgres=$(password postgres_password)
echo "postgres://iota:$postgres@postgres:5432/iota" | write database_url

broker=$(password broker_password)
printf 'default_user = iota\ndefault_pass = %s\n' "$broker" | write rabbitmq_user
echo "amqp://iota:$broker@rabbitmq:5672//" | write celery_broker_url

site=$(password redis_password)
operator=$(password redis_operator_password)
sweeper=$(password redis_sweeper_password)
replica=$(password redis_replica_password)
admin=$(password redis_admin_password)
nodes=node1:6379,node2:6379,node3:6379,node4:6379,node5:6379,node6:6379
# urls FILE USER PASSWORD: of one server, and of the cluster.
urls() {
    echo "redis://$2:$3@valkey:6379/0" | write "$1.single"
    echo "redis+cluster://$2:$3@$nodes" | write "$1.cluster"
}
urls redis_url iota "$site"
urls redis_operator_url iota-operator "$operator"
urls redis_sweeper_url iota-sweeper "$sweeper"

hashed() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }
sed -e "s/^user iota off /user iota on #$(hashed "$site") /" \
    -e "s/^user iota-operator off /user iota-operator on #$(hashed "$operator") /" \
    -e "s/^user iota-sweeper off /user iota-sweeper on #$(hashed "$sweeper") /" \
    -e "s/^user iota-replica off /user iota-replica on #$(hashed "$replica") /" \
    -e "s/^user iota-admin off /user iota-admin on #$(hashed "$admin") /" \
    deploy/redis/users.acl | write valkey_users
printf 'masteruser iota-replica\nmasterauth %s\n' "$replica" | write valkey_replication

echo "the secrets are in $folder/"
