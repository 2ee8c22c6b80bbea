#!/bin/sh
# Makes the certificates of the tests anew: sh make.sh. They are good from 2020 until 2126, so that
# foreign peers, which go by the wall clock, accept them on a machine whose clock is off.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/index"
cat > "$work/conf" <<CONF
[ca]
default_ca = own
[own]
database = $work/index
new_certs_dir = $work
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
email_in_dn = no
[any]
commonName = supplied
[req]
distinguished_name = none
[none]
CONF
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
issue() { # file name, common name, extensions, issuer's options of openssl-ca
  name=$1 subject=$2 extensions=$3; shift 3
  key "$work/$name.key"
  openssl req -new -config "$work/conf" -key "$work/$name.key" -subj "/CN=$subject" -out "$work/$name.csr"
  printf 'subjectKeyIdentifier=hash\n%b' "$extensions" > "$work/extensions"
  openssl ca -batch -notext -config "$work/conf" -extfile "$work/extensions" -in "$work/$name.csr" \
    -startdate 20200101000000Z -enddate 21260101000000Z -out "$name.pem" "$@" 2>/dev/null
}
leaf='authorityKeyIdentifier=keyid\nbasicConstraints=critical,CA:FALSE\n'
by_ca() {
  issue "$1" "$1" "${leaf}subjectAltName=$2\nextendedKeyUsage=$3\n" -cert ca.pem -keyfile "$work/ca.key"
  cp "$work/$1.key" .
}
issue ca "tepal test CA" 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' \
  -selfsign -keyfile "$work/ca.key"
by_ca server "DNS:server.test,DNS:localhost,IP:127.0.0.1" serverAuth
by_ca other "DNS:other.test,DNS:*.wild.test" serverAuth
by_ca client "DNS:client.test" clientAuth
issue self self 'subjectAltName=DNS:server.test\n' -selfsign -keyfile "$work/self.key"
cp "$work/self.key" .
