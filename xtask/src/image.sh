# usage: image.sh IMAGE
# The image as it is deployed, in a network of its own. Run by `cargo xtask image --check`; needs root, podman, dnsmasq, openssl, a Redis with TLS.
image=$1
dir=$(mktemp -d)
net=unstale-image-$$
ip netns add "$net"
cleanup() {
    kill $(cat "$dir"/*.pid) 2>/dev/null || true
    podman rm --force --time 0 "$net" >/dev/null 2>&1 || true
    ip netns del "$net"
    rm -rf "$dir"
}
trap cleanup EXIT
ip -n "$net" link set lo up
within() { ip netns exec "$net" "$@"; }

# A certificate of a name that only this network's server of names knows.
cd "$dir"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=check -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=cache.check.test -keyout key -out csr 2>/dev/null
openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -days 2 -out crt -extfile <(echo subjectAltName=DNS:cache.check.test) 2>/dev/null
chmod 644 ca.crt
within "$UNSTALE_REDIS_SERVER" --port 0 --tls-port 6380 --tls-cert-file crt --tls-key-file key --tls-ca-cert-file ca.crt --tls-auth-clients no \
    --save '' --daemonize yes --dir "$dir" --pidfile "$dir/redis.pid" >/dev/null
within dnsmasq --no-resolv --no-hosts --conf-file=/dev/null --listen-address=127.0.0.1 --bind-interfaces --user=root \
    --address=/cache.check.test/127.0.0.1 --pid-file="$dir/dnsmasq.pid"

# The limits are some that nobody lacks the right to set.
run() {
    podman run --network "ns:/run/netns/$net" --dns 127.0.0.1 --no-healthcheck --read-only --cap-drop all --ulimit nofile=1024:1024 --ulimit nproc=512:512 \
        --env UNSTALE__PRESETS=llm-gateway --env REDIS_URL=rediss://cache.check.test:6380 "$@"
}

echo "── its size"
podman image inspect --format '{{.Size}} bytes, user {{.User}}, {{.HealthCheck}}' "$image"
echo "── what it says of itself"
run --rm "$image" --version
echo "── a name that is none"
if run --rm --env REDIS_URL=rediss://nobody.check.test:6380 "$image" check --set redis.main.connect_timeout=2s; then echo "found what isn't there" >&2; exit 1; fi
echo "── whom the image trusts doesn't include this server"
if run --rm "$image" check --set redis.main.connect_timeout=2s; then echo "trusted whom it shouldn't" >&2; exit 1; fi
echo "── by name, by TLS"
trusted=(--volume "$dir/ca.crt:/run/ca.crt:ro" --env UNSTALE__REDIS__MAIN__CA=/run/ca.crt)
run --rm "${trusted[@]}" "$image" check
echo "── by the certificates in the image's own place"
run --rm --volume "$dir/ca.crt:/etc/ssl/certs/ca-certificates.crt:ro" "$image" check >/dev/null
echo "── it runs, deletes, is healthy, and ends when told"
redis() { within redis-cli --tls --cacert "$dir/ca.crt" --sni cache.check.test -p 6380 "$@"; }
redis set vkey:7 old >/dev/null
run --detach --name "$net" "${trusted[@]}" "$image" >/dev/null
redis xadd unstale:events '*' type SpendUpdated key_hash 7 >/dev/null
for _ in $(seq 100); do
    [ "$(redis exists vkey:7)" = 1 ] || break
    sleep 0.1
done
[ "$(redis exists vkey:7)" = 0 ] || { podman logs "$net"; exit 1; }
podman exec "$net" /unstale health --ready
podman stop --time 20 "$net" >/dev/null
code=$(podman inspect --format '{{.State.ExitCode}}' "$net")
[ "$code" = 0 ] || { podman logs "$net"; echo "ended with $code" >&2; exit 1; }
echo "ended with 0"
