#!/bin/sh
# Prints an ssl.config for tensorflow_model_server from PEM files:
#   sh make_ssl_config.sh server.key server.crt [clients-ca.crt] > /secrets/ssl.config
# With a third file every client must show a certificate signed by it.
set -eu
if [ "$#" -lt 2 ] || [ "$#" -gt 3 ]; then
  echo "usage: make_ssl_config.sh SERVER_KEY SERVER_CERT [CLIENTS_CA]" >&2
  exit 2
fi

pem() { # FIELD FILE: one text-format string, its line ends written as \n
  if ! grep -q -e '-----BEGIN ' "$2"; then
    echo "$2 is no PEM file: it has no BEGIN line" >&2
    exit 1
  fi
  printf '%s: "' "$1"
  awk '{ sub(/\r$/, ""); printf "%s\\n", $0 }' "$2"
  printf '"\n'
}

pem server_key "$1"
pem server_cert "$2"
if [ "$#" -eq 3 ]; then
  pem custom_ca "$3"
  echo 'client_verify: true'
fi
