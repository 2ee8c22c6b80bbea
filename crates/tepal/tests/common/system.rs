//! The system as a program finds it: files in /etc, and name servers of others' making.

/// Sets up a namespace: `/etc/resolv.conf` with this text, a hosts file, nsd at 127.0.0.2 with these
/// records in `corp.example`, unbound at 127.0.0.3, which asks nsd, and dnsmasq at 127.0.0.4 with
/// these options. `BIG` in a record becomes 200 letters.
pub(crate) fn script(resolv_conf: &str, zone: &str, dnsmasq: &str) -> String {
    TEMPLATE
        .replace("RESOLV_CONF", resolv_conf.trim())
        .replace("RECORDS", zone.trim())
        .replace("DNSMASQ", dnsmasq)
        .replace("BIG", &"x".repeat(200))
}

const TEMPLATE: &str = r#"
ip link set lo up
mount -t tmpfs tmpfs /mnt
cat > /mnt/resolv.conf <<'END'
RESOLV_CONF
END
printf '127.0.0.7 printer.corp.example printer\n::1 six\n127.0.0.6 six\n' > /mnt/hosts
echo 'hosts: files dns' > /mnt/nsswitch.conf
for file in resolv.conf hosts nsswitch.conf; do
  touch /etc/$file 2>/dev/null || true
  mount --bind /mnt/$file /etc/$file
done
cat > /mnt/zone <<'END'
$ORIGIN corp.example.
$TTL 300
@ IN SOA ns admin 1 2 3 4 60
@ IN NS ns
ns IN A 127.0.0.2
RECORDS
END
cat > /mnt/nsd.conf <<'END'
server:
  ip-address: 127.0.0.2
  username: ""
  chroot: ""
  zonesdir: "/mnt"
  database: ""
  pidfile: "/mnt/nsd.pid"
  xfrdfile: "/mnt/xfrd"
  zonelistfile: "/mnt/zones"
  xfrdir: "/mnt"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: corp.example
  zonefile: zone
END
cat > /mnt/unbound.conf <<'END'
server:
  interface: 127.0.0.3
  username: ""
  chroot: ""
  directory: "/mnt"
  pidfile: "/mnt/unbound.pid"
  use-syslog: no
  do-daemonize: no
  module-config: "iterator"
  do-not-query-localhost: no
stub-zone:
  name: corp.example
  stub-addr: 127.0.0.2
remote-control:
  control-enable: no
END
nsd -d -c /mnt/nsd.conf >/dev/null 2>&1 &
unbound -d -c /mnt/unbound.conf >/dev/null 2>&1 &
# Debugging is also what keeps it from changing its user, which not everybody may.
dnsmasq --no-daemon --conf-file=/dev/null --listen-address=127.0.0.4 \
  --bind-interfaces --no-resolv --no-hosts --pid-file= DNSMASQ --local=/example/ \
  >/dev/null 2>&1 &
for i in $(seq 200); do
  [ $(ss -lun | grep -c "127.0.0.[234]:53 ") -ge 3 ] && break
  sleep 0.05
done
"#;
