#!/bin/sh
# Makes the certificates of the tests anew: sh make.sh. They are good until 2126.
set -eu
cd "$(dirname "$0")"
days=36500
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
key ca.key
openssl req -x509 -new -key ca.key -subj "/CN=tepal test CA" -days $days -out ca.pem \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
issue() { # name, subject alternative names, usage, more openssl options
  name=$1 san=$2 usage=$3; shift 3
  key "$name.key"
  printf 'subjectAltName=%s\nextendedKeyUsage=%s\n' "$san" "$usage" > ext.tmp
  openssl req -new -key "$name.key" -subj "/CN=$name" 2>/dev/null |
    openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext.tmp -out "$name.pem" "$@" 2>/dev/null
  rm ext.tmp
}
issue server "DNS:server.test,DNS:localhost,IP:127.0.0.1" serverAuth -days $days
issue other "DNS:other.test,DNS:*.wild.test" serverAuth -days $days
issue client "DNS:client.test" clientAuth -days $days
key self.key
openssl req -x509 -new -key self.key -subj "/CN=self" -days $days -out self.pem -addext subjectAltName=DNS:server.test 2>/dev/null
rm -f ca.key ca.srl
