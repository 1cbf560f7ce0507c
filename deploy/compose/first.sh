#!/bin/sh
# Before the first start of docker-compose.yml: a certificate that nobody vouches for, a DKIM key, the account of the sample client.
set -eu
cd /var/lib/elemta
[ -e fullchain.pem ] || elemta tls self-signed mx.example.org elemta
[ -e dkim.pem ] || elemta dkim generate domain.invalid --selector elemta --output dkim.pem
if [ ! -e users ]; then
  : >users.part
  chmod 600 users.part
  mv users.part users
  printf '%s\n' "${SAMPLE_PASSWORD}" | elemta user add sender@example.org
fi
